/*
 * Operations on a node by itself: attributes, links, extended attributes, and the file system as a whole.
 */
import type { AttributeChanges, NewTime } from "../../../backends/contract.ts";
import { ErrnoError } from "../../../base/errno-error.ts";
import { encodeName } from "../../../base/file-name.ts";
import { answerAttributes } from "../answers.ts";
import * as fuse from "../constants.ts";
import type { Fields, FuseRequest } from "../request.ts";
import type { FuseServer, Operation } from "../server.ts";
import * as structs from "../structs.ts";

const PERMISSIONS = 0o7777;
/** XATTR_NAME_MAX, XATTR_SIZE_MAX and XATTR_LIST_MAX of <linux/limits.h>. */
const XATTR_NAME_MAX = 255;
const XATTR_SIZE_MAX = 65_536;
const XATTR_LIST_MAX = 65_536;
/** Without FUSE_SETXATTR_EXT. */
const SETXATTR_BYTES = 8;
const SETATTR = structs.fuse_setattr_in;

async function getattr(server: FuseServer, request: FuseRequest): Promise<void> {
	const entry = server.nodes.use(request.nodeid, request);
	const fields = request.take(structs.fuse_getattr_in.sizeof);
	const byFile = (fields.u32(structs.fuse_getattr_in.getattr_flags) & fuse.FUSE_GETATTR_FH) !== 0;
	const handle = byFile ? server.handles.use(fields.u64(structs.fuse_getattr_in.fh), request) : undefined;
	if (handle !== undefined && handle.entry !== entry) throw ErrnoError.of("EBADF");
	answerAttributes(server, request, entry, await server.fileSystem.getattr(entry.node, handle?.file));
}

async function setattr(server: FuseServer, request: FuseRequest): Promise<void> {
	const { fileSystem } = server;
	const entry = server.nodes.use(request.nodeid, request);
	const fields = request.take(SETATTR.sizeof);
	const byFile = (fields.u32(SETATTR.valid) & fuse.FATTR_FH) !== 0;
	const handle = byFile ? server.handles.use(fields.u64(SETATTR.fh), request) : undefined;
	if (handle !== undefined && handle.entry !== entry) throw ErrnoError.of("EBADF");
	await fileSystem.setattr!(entry.node, changesIn(fields), handle?.file);
	answerAttributes(server, request, entry, await fileSystem.getattr(entry.node, handle?.file));
}

/** @throws ErrnoError EFBIG, EINVAL */
function changesIn(fields: Fields): AttributeChanges {
	const valid = fields.u32(SETATTR.valid);
	const has = (flag: number) => (valid & flag) !== 0;
	const size = fields.u64(SETATTR.size);
	if (has(fuse.FATTR_SIZE) && !Number.isSafeInteger(size)) throw ErrnoError.of("EFBIG");
	const time = (at: number, atNsec: number, now: number): NewTime => {
		if (has(now)) return "now";
		const nanoseconds = fields.u32(atNsec);
		const seconds = fields.s64(at);
		if (nanoseconds >= 1e9 || !Number.isSafeInteger(seconds)) throw ErrnoError.of("EINVAL");
		return { seconds, nanoseconds };
	};
	return {
		...(has(fuse.FATTR_MODE) ? { mode: fields.u32(SETATTR.mode) & PERMISSIONS } : {}),
		...(has(fuse.FATTR_UID) ? { uid: fields.u32(SETATTR.uid) } : {}),
		...(has(fuse.FATTR_GID) ? { gid: fields.u32(SETATTR.gid) } : {}),
		...(has(fuse.FATTR_SIZE) ? { size } : {}),
		...(has(fuse.FATTR_ATIME) ? { atime: time(SETATTR.atime, SETATTR.atimensec, fuse.FATTR_ATIME_NOW) } : {}),
		...(has(fuse.FATTR_MTIME) ? { mtime: time(SETATTR.mtime, SETATTR.mtimensec, fuse.FATTR_MTIME_NOW) } : {}),
		...(has(fuse.FATTR_KILL_SUIDGID) ? { killSuidGid: true } : {}),
	};
}

async function readlink(server: FuseServer, request: FuseRequest): Promise<void> {
	const { node } = server.nodes.use(request.nodeid, request);
	request.answerBytes(encodeName(await server.fileSystem.readlink!(node)));
}

async function setxattr(server: FuseServer, request: FuseRequest): Promise<void> {
	const { node } = server.nodes.use(request.nodeid, request);
	const fields = request.take(SETXATTR_BYTES);
	const name = request.takeText(XATTR_NAME_MAX);
	const size = fields.u32(structs.fuse_setxattr_in.size);
	if (size > XATTR_SIZE_MAX) throw ErrnoError.of("E2BIG");
	const value = request.takeBytes(size);
	await server.fileSystem.setxattr!(node, name, value, fields.u32(structs.fuse_setxattr_in.flags));
}

async function getxattr(server: FuseServer, request: FuseRequest): Promise<void> {
	const { node } = server.nodes.use(request.nodeid, request);
	const size = request.take(structs.fuse_getxattr_in.sizeof).u32(structs.fuse_getxattr_in.size);
	const name = request.takeText(XATTR_NAME_MAX);
	answerSized(request, size, await server.fileSystem.getxattr!(node, name));
}

async function listxattr(server: FuseServer, request: FuseRequest): Promise<void> {
	const { node } = server.nodes.use(request.nodeid, request);
	const size = request.take(structs.fuse_getxattr_in.sizeof).u32(structs.fuse_getxattr_in.size);
	const names = await server.fileSystem.listxattr!(node);
	const list = Buffer.concat(names.flatMap((name) => [encodeName(name), NUL]));
	if (list.length > XATTR_LIST_MAX) throw ErrnoError.of("E2BIG");
	answerSized(request, size, list);
}

const NUL = Buffer.alloc(1);

/** Answers with a value, or with its size when the guest has no room yet. @throws ErrnoError ERANGE when it has too little */
function answerSized(request: FuseRequest, size: number, value: Uint8Array): void {
	if (size === 0) request.answer(structs.fuse_getxattr_out.sizeof).setU32(structs.fuse_getxattr_out.size, value.length);
	else if (value.length > size) throw ErrnoError.of("ERANGE");
	else request.answerBytes(value);
}

async function removexattr(server: FuseServer, request: FuseRequest): Promise<void> {
	const { node } = server.nodes.use(request.nodeid, request);
	await server.fileSystem.removexattr!(node, request.takeText(XATTR_NAME_MAX));
}

async function statfs(server: FuseServer, request: FuseRequest): Promise<void> {
	const { node } = server.nodes.use(request.nodeid, request);
	const status = await server.fileSystem.statfs?.(node);
	const out = request.answer(structs.fuse_kstatfs.sizeof);
	out.setU64(structs.fuse_kstatfs.blocks, status?.blocks ?? 0);
	out.setU64(structs.fuse_kstatfs.bfree, status?.bfree ?? 0);
	out.setU64(structs.fuse_kstatfs.bavail, status?.bavail ?? 0);
	out.setU64(structs.fuse_kstatfs.files, status?.files ?? 0);
	out.setU64(structs.fuse_kstatfs.ffree, status?.ffree ?? 0);
	out.setU32(structs.fuse_kstatfs.bsize, status?.bsize ?? 4096);
	out.setU32(structs.fuse_kstatfs.frsize, status?.bsize ?? 4096);
	out.setU32(structs.fuse_kstatfs.namelen, status?.namelen ?? 255);
}

async function syncfs(server: FuseServer, request: FuseRequest): Promise<void> {
	const { node } = server.nodes.use(request.nodeid, request);
	await server.fileSystem.syncfs!(node);
}

/** By opcode. */
export const nodeOperations: Readonly<Record<number, Operation>> = {
	[fuse.FUSE_GETATTR]: { run: getattr },
	[fuse.FUSE_SETATTR]: { run: setattr, needs: "setattr", changes: true, otherwise: "EROFS" },
	[fuse.FUSE_READLINK]: { run: readlink, needs: "readlink", otherwise: "EINVAL" },
	[fuse.FUSE_SETXATTR]: { run: setxattr, needs: "setxattr", changes: true },
	[fuse.FUSE_GETXATTR]: { run: getxattr, needs: "getxattr" },
	[fuse.FUSE_LISTXATTR]: { run: listxattr, needs: "listxattr" },
	[fuse.FUSE_REMOVEXATTR]: { run: removexattr, needs: "removexattr", changes: true },
	[fuse.FUSE_STATFS]: { run: statfs },
	[fuse.FUSE_SYNCFS]: { run: syncfs, needs: "syncfs" },
};
