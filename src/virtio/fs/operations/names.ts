/*
 * Operations on names in directories: what is there, what comes, goes, and moves.
 */
import type { NewNode } from "../../../backends/contract.ts";
import { ErrnoError, errnoOf } from "../../../base/errno-error.ts";
import { answerMissing, answerNode, answerOpen } from "../answers.ts";
import * as fuse from "../constants.ts";
import type { FuseRequest } from "../request.ts";
import type { FuseServer, Operation } from "../server.ts";
import * as structs from "../structs.ts";

const ENOENT = ErrnoError.of("ENOENT").number;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFREG = 0o100000;
/** Permissions with S_ISUID, S_ISGID and S_ISVTX. */
const PERMISSIONS = 0o7777;
/** What no user is: the host takes it for "leave it as it is". */
const NOBODY = 0xffff_ffff;
/** Of renameat2(2): all there are. */
const RENAME_FLAGS = 7;

/** How a node begins that this request makes. @throws ErrnoError EOVERFLOW when its owner is none */
export function newNode({ uid, gid }: FuseRequest, mode: number, rdev = 0): NewNode {
	if (uid === NOBODY || gid === NOBODY) throw ErrnoError.of("EOVERFLOW");
	return { mode, uid, gid, rdev };
}

async function lookup(server: FuseServer, request: FuseRequest): Promise<void> {
	const parent = server.nodes.use(request.nodeid, request);
	const name = request.takeName();
	let node: object;
	try {
		node = await server.fileSystem.lookup(parent.node, name);
	} catch (error) {
		if (!server.cache.keepsMissing || errnoOf(error) !== ENOENT) throw error;
		answerMissing(server, request);
		return;
	}
	await answerNode(server, request, node);
}

async function mknod(server: FuseServer, request: FuseRequest): Promise<void> {
	const parent = server.nodes.use(request.nodeid, request);
	const fields = request.take(structs.fuse_mknod_in.sizeof);
	const name = request.takeName();
	const mode = fields.u32(structs.fuse_mknod_in.mode) & (S_IFMT | PERMISSIONS);
	const type = mode & S_IFMT;
	if (type === S_IFDIR || type === S_IFLNK) throw ErrnoError.of("EINVAL");
	const how = newNode(request, type === 0 ? mode | S_IFREG : mode, fields.u32(structs.fuse_mknod_in.rdev));
	await answerNode(server, request, await server.fileSystem.mknod!(parent.node, name, how));
}

async function mkdir(server: FuseServer, request: FuseRequest): Promise<void> {
	const parent = server.nodes.use(request.nodeid, request);
	const mode = request.take(structs.fuse_mkdir_in.sizeof).u32(structs.fuse_mkdir_in.mode) & PERMISSIONS;
	const name = request.takeName();
	const node = await server.fileSystem.mkdir!(parent.node, name, newNode(request, mode | S_IFDIR));
	await answerNode(server, request, node);
}

async function symlink(server: FuseServer, request: FuseRequest): Promise<void> {
	const parent = server.nodes.use(request.nodeid, request);
	const name = request.takeName();
	const target = request.takeText();
	const how = newNode(request, S_IFLNK | 0o777);
	await answerNode(server, request, await server.fileSystem.symlink!(parent.node, name, target, how));
}

async function link(server: FuseServer, request: FuseRequest): Promise<void> {
	const parent = server.nodes.use(request.nodeid, request);
	const id = request.take(structs.fuse_link_in.sizeof).u64(structs.fuse_link_in.oldnodeid);
	const { node } = server.nodes.use(id, request);
	await server.fileSystem.link!(node, { parent: parent.node, name: request.takeName() });
	await answerNode(server, request, node);
}

async function unlink(server: FuseServer, request: FuseRequest): Promise<void> {
	const parent = server.nodes.use(request.nodeid, request);
	await server.fileSystem.unlink!(parent.node, request.takeName());
}

async function rmdir(server: FuseServer, request: FuseRequest): Promise<void> {
	const parent = server.nodes.use(request.nodeid, request);
	await server.fileSystem.rmdir!(parent.node, request.takeName());
}

async function rename(server: FuseServer, request: FuseRequest): Promise<void> {
	const from = server.nodes.use(request.nodeid, request);
	const old = request.opcode === fuse.FUSE_RENAME;
	const fields = request.take(old ? structs.fuse_rename_in.sizeof : structs.fuse_rename2_in.sizeof);
	const to = server.nodes.use(fields.u64(structs.fuse_rename2_in.newdir), request);
	const flags = old ? 0 : fields.u32(structs.fuse_rename2_in.flags);
	if ((flags & ~RENAME_FLAGS) !== 0) throw ErrnoError.of("EINVAL");
	const name = request.takeName();
	const newName = request.takeName();
	await server.fileSystem.rename!({ parent: from.node, name }, { parent: to.node, name: newName }, flags);
}

async function create(server: FuseServer, request: FuseRequest): Promise<void> {
	const { fileSystem, handles } = server;
	const parent = server.nodes.use(request.nodeid, request);
	const fields = request.take(structs.fuse_create_in.sizeof);
	const flags = fields.u32(structs.fuse_create_in.flags);
	const how = newNode(request, S_IFREG | (fields.u32(structs.fuse_create_in.mode) & PERMISSIONS));
	handles.checkRoom();
	const made =
		request.opcode === fuse.FUSE_CREATE
			? await fileSystem.create!(parent.node, request.takeName(), flags, how)
			: await fileSystem.tmpfile!(parent.node, flags, how);
	let fh: number | undefined;
	try {
		const entry = await answerNode(server, request, made.node);
		fh = handles.add(entry, made.file, false);
		answerOpen(request, fh, server.cache.openFile(entry, undefined));
	} finally {
		if (fh === undefined) fileSystem.release?.(made);
	}
}

async function forget(server: FuseServer, request: FuseRequest): Promise<void> {
	const count = request.take(structs.fuse_forget_in.sizeof).u64(structs.fuse_forget_in.nlookup);
	server.nodes.forget(request.nodeid, count);
}

async function batchForget(server: FuseServer, request: FuseRequest): Promise<void> {
	const { sizeof, nodeid, nlookup } = structs.fuse_forget_one;
	const count = request.take(structs.fuse_batch_forget_in.sizeof).u32(structs.fuse_batch_forget_in.count);
	for (let i = 0; i < count; i++) {
		const one = request.take(sizeof);
		server.nodes.forget(one.u64(nodeid), one.u64(nlookup));
	}
}

/** By opcode. */
export const nameOperations: Readonly<Record<number, Operation>> = {
	[fuse.FUSE_LOOKUP]: { run: lookup },
	[fuse.FUSE_FORGET]: { run: forget },
	[fuse.FUSE_BATCH_FORGET]: { run: batchForget },
	[fuse.FUSE_MKNOD]: { run: mknod, needs: "mknod", changes: true, otherwise: "EROFS" },
	[fuse.FUSE_MKDIR]: { run: mkdir, needs: "mkdir", changes: true, otherwise: "EROFS" },
	[fuse.FUSE_SYMLINK]: { run: symlink, needs: "symlink", changes: true, otherwise: "EROFS" },
	[fuse.FUSE_LINK]: { run: link, needs: "link", changes: true, otherwise: "EPERM" },
	[fuse.FUSE_UNLINK]: { run: unlink, needs: "unlink", changes: true, otherwise: "EROFS" },
	[fuse.FUSE_RMDIR]: { run: rmdir, needs: "rmdir", changes: true, otherwise: "EROFS" },
	[fuse.FUSE_RENAME]: { run: rename, needs: "rename", changes: true, otherwise: "EROFS" },
	[fuse.FUSE_RENAME2]: { run: rename, needs: "rename", changes: true, otherwise: "EROFS" },
	[fuse.FUSE_CREATE]: { run: create, needs: "create", changes: true },
	[fuse.FUSE_TMPFILE]: { run: create, needs: "tmpfile", changes: true },
};
