/*
 * Operations on open directories. An answer of READDIR is a row of entries, as many as there is room for; READDIRPLUS
 * puts a LOOKUP of each in front.
 *
 *     fuse_dirent | name | zeroes up to a multiple of 8        with READDIRPLUS: fuse_entry_out | fuse_dirent | ...
 */
import type { DirectoryEntry } from "../../../backends/contract.ts";
import { ErrnoError, errnoOf } from "../../../base/errno-error.ts";
import { encodeName } from "../../../base/file-name.ts";
import { answerOpen, putEntry } from "../answers.ts";
import * as fuse from "../constants.ts";
import type { FuseRequest } from "../request.ts";
import type { FuseServer, Operation } from "../server.ts";
import { fuse_dirent, fuse_entry_out, fuse_open_in, fuse_read_in, fuse_release_in } from "../structs.ts";

const { sizeof: DIRENT_BYTES } = fuse_dirent;
/** The most bytes of one answer, also when the guest has more room. */
const MAX_ANSWER_BYTES = 128 * 1024;
/** Where the type is in a mode: DT_DIR is S_IFDIR >> 12. */
const TYPE_SHIFT = 12;
const S_IFDIR = 0o040000;
/** What stands for the inode of an entry that has none: 0 would be no entry at all. */
const UNKNOWN_INO = 0xffff_ffff;

/** "." and "..", which a file system does not give; their positions are ones that no file system has. */
const FIRST_OWN_POSITION = 0x7fff_ffff_ffff_fff0n;
const OWN_ENTRIES: readonly DirectoryEntry[] = [".", ".."].map((name, i) => ({
	name,
	mode: S_IFDIR,
	position: FIRST_OWN_POSITION + BigInt(i),
}));

function isOwn({ position }: DirectoryEntry): boolean {
	return position >= FIRST_OWN_POSITION && position < FIRST_OWN_POSITION + BigInt(OWN_ENTRIES.length);
}

async function opendir(server: FuseServer, request: FuseRequest): Promise<void> {
	const entry = server.nodes.use(request.nodeid, request);
	request.take(fuse_open_in.sizeof);
	server.handles.checkRoom();
	const file = await server.fileSystem.opendir?.(entry.node);
	answerOpen(request, server.handles.add(entry, file, true), server.cache.openDirectory());
}

async function releasedir(server: FuseServer, request: FuseRequest): Promise<void> {
	server.handles.remove(request.take(fuse_release_in.sizeof).u64(fuse_release_in.fh));
}

async function readdir(server: FuseServer, request: FuseRequest): Promise<void> {
	const fields = request.take(fuse_read_in.sizeof);
	const handle = server.handles.use(fields.u64(fuse_read_in.fh), request, true);
	const position = fields.bits(fuse_read_in.offset);
	const plus = request.opcode === fuse.FUSE_READDIRPLUS;
	let room = Math.min(fields.u32(fuse_read_in.size), request.roomBytes, MAX_ANSWER_BYTES);
	const own = OWN_ENTRIES.slice(OWN_ENTRIES.findIndex((entry) => entry.position === position) + 1);
	const isBeginning = position === 0n || own.length < OWN_ENTRIES.length;
	const ofFileSystem = await server.fileSystem.readdir(handle, isBeginning ? 0n : position);
	for (const entry of isBeginning ? [...own, ...ofFileSystem] : ofFileSystem) {
		const name = encodeName(entry.name);
		const bytes = (plus ? fuse_entry_out.sizeof : 0) + recordBytes(name.length);
		if (bytes > room) {
			/* The guest would take an empty answer for the end. */
			if (room === Math.min(fields.u32(fuse_read_in.size), MAX_ANSWER_BYTES)) throw ErrnoError.of("EINVAL");
			return;
		}
		/* Linux skips a lookup of "." and ".." that says nothing. */
		if (plus && isOwn(entry)) request.answer(fuse_entry_out.sizeof);
		else if (plus) await answerLookup(server, request, handle.node, entry);
		putDirent(request, entry, name);
		room -= bytes;
	}
}

/** A LOOKUP of an entry; all zeroes when it fails, and the guest looks itself. */
async function answerLookup(
	server: FuseServer,
	request: FuseRequest,
	parent: object,
	{ name }: DirectoryEntry,
): Promise<void> {
	const { fileSystem, nodes, cache } = server;
	const out = request.answer(fuse_entry_out.sizeof);
	try {
		const entry = nodes.found(await fileSystem.lookup(parent, name));
		nodes.pin(entry);
		try {
			putEntry(out, entry, await fileSystem.getattr(entry.node), cache.seconds);
		} catch (error) {
			nodes.forget(entry.id, 1);
			throw error;
		} finally {
			nodes.unpin(entry);
		}
	} catch (error) {
		if (errnoOf(error) === undefined) throw error;
	}
}

/** Header, name, and zeroes up to a multiple of 8. */
function recordBytes(nameBytes: number): number {
	return DIRENT_BYTES + Math.ceil(nameBytes / 8) * 8;
}

function putDirent(request: FuseRequest, { ino, mode, position }: DirectoryEntry, name: Buffer): void {
	const out = request.answer(DIRENT_BYTES);
	out.setU64(fuse_dirent.ino, ino ?? UNKNOWN_INO);
	out.setU64(fuse_dirent.off, position);
	out.setU32(fuse_dirent.namelen, name.length);
	out.setU32(fuse_dirent.type, (mode >>> TYPE_SHIFT) & 15);
	request.answerBytes(name);
	request.answer(recordBytes(name.length) - DIRENT_BYTES - name.length);
}

/** By opcode. */
export const directoryOperations: Readonly<Record<number, Operation>> = {
	[fuse.FUSE_OPENDIR]: { run: opendir },
	[fuse.FUSE_RELEASEDIR]: { run: releasedir },
	[fuse.FUSE_READDIR]: { run: readdir },
	[fuse.FUSE_READDIRPLUS]: { run: readdir },
};
