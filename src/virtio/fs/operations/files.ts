/*
 * Operations on open files: their data, and what is stable of it.
 */
import { ErrnoError } from "../../../base/errno-error.ts";
import { answerOpen } from "../answers.ts";
import * as fuse from "../constants.ts";
import type { FuseRequest } from "../request.ts";
import type { FuseServer, Operation } from "../server.ts";
import * as structs from "../structs.ts";

/* Of open(2). */
const O_ACCMODE = 3;
const O_TRUNC = 0o1000;
/* Of lseek(2). */
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
/** What one COPY_FILE_RANGE copies at most: the guest asks again for the rest. */
const MAX_COPY_BYTES = 128 * 1024 * 1024;

async function open(server: FuseServer, request: FuseRequest): Promise<void> {
	const { fileSystem, handles, cache } = server;
	const entry = server.nodes.use(request.nodeid, request);
	const fields = request.take(structs.fuse_open_in.sizeof);
	const flags = fields.u32(structs.fuse_open_in.flags);
	const killSuidGid = (fields.u32(structs.fuse_open_in.open_flags) & fuse.FUSE_OPEN_KILL_SUIDGID) !== 0;
	const writes = (flags & O_ACCMODE) !== 0 || (flags & O_TRUNC) !== 0;
	if (writes && server.isReadOnly) throw ErrnoError.of("EROFS");
	handles.checkRoom();
	const file = await fileSystem.open?.(entry.node, flags, killSuidGid);
	const fh = handles.add(entry, file, false);
	try {
		const attributes = cache.looksAtOpen ? await fileSystem.getattr(entry.node, file) : undefined;
		answerOpen(request, fh, cache.openFile(entry, attributes));
	} catch (error) {
		handles.remove(fh);
		throw error;
	}
}

async function release(server: FuseServer, request: FuseRequest): Promise<void> {
	server.handles.remove(request.take(structs.fuse_release_in.sizeof).u64(structs.fuse_release_in.fh));
}

async function read(server: FuseServer, request: FuseRequest): Promise<void> {
	const fields = request.take(structs.fuse_read_in.sizeof);
	const handle = server.handles.use(fields.u64(structs.fuse_read_in.fh), request);
	const offset = safe(fields.u64(structs.fuse_read_in.offset));
	const room = request.dataRoom(fields.u32(structs.fuse_read_in.size));
	if (room.totalBytes === 0) return;
	const count = await server.fileSystem.read!(handle, offset, room);
	request.filledBytes = Math.min(Math.max(0, count), room.totalBytes);
}

async function write(server: FuseServer, request: FuseRequest): Promise<void> {
	const fields = request.take(structs.fuse_write_in.sizeof);
	const handle = server.handles.use(fields.u64(structs.fuse_write_in.fh), request);
	const offset = safe(fields.u64(structs.fuse_write_in.offset));
	if (fields.u32(structs.fuse_write_in.size) !== request.data.totalBytes) throw ErrnoError.of("EINVAL");
	const kill = (fields.u32(structs.fuse_write_in.write_flags) & fuse.FUSE_WRITE_KILL_SUIDGID) !== 0;
	safe(offset + request.data.totalBytes);
	const count = request.data.totalBytes === 0 ? 0 : await server.fileSystem.write!(handle, offset, request.data, kill);
	request.answer(structs.fuse_write_out.sizeof).setU32(structs.fuse_write_out.size, count);
}

/** @throws ErrnoError EINVAL for what no file is as long as */
function safe(offset: number): number {
	if (!Number.isSafeInteger(offset)) throw ErrnoError.of("EINVAL");
	return offset;
}

async function flush(server: FuseServer, request: FuseRequest): Promise<void> {
	const fh = request.take(structs.fuse_flush_in.sizeof).u64(structs.fuse_flush_in.fh);
	await server.fileSystem.flush!(server.handles.use(fh, request));
}

async function fsync(server: FuseServer, request: FuseRequest): Promise<void> {
	const fields = request.take(structs.fuse_fsync_in.sizeof);
	const isDirectory = request.opcode === fuse.FUSE_FSYNCDIR;
	const handle = server.handles.use(fields.u64(structs.fuse_fsync_in.fh), request, isDirectory);
	const dataOnly = (fields.u32(structs.fuse_fsync_in.fsync_flags) & fuse.FUSE_FSYNC_FDATASYNC) !== 0;
	await server.fileSystem.fsync!(handle, dataOnly);
}

async function fallocate(server: FuseServer, request: FuseRequest): Promise<void> {
	const fields = request.take(structs.fuse_fallocate_in.sizeof);
	const handle = server.handles.use(fields.u64(structs.fuse_fallocate_in.fh), request);
	const offset = safe(fields.u64(structs.fuse_fallocate_in.offset));
	const length = safe(fields.u64(structs.fuse_fallocate_in.length));
	const mode = fields.u32(structs.fuse_fallocate_in.mode);
	await server.fileSystem.fallocate!(handle, { mode, offset, length });
}

async function lseek(server: FuseServer, request: FuseRequest): Promise<void> {
	const fields = request.take(structs.fuse_lseek_in.sizeof);
	const handle = server.handles.use(fields.u64(structs.fuse_lseek_in.fh), request);
	const offset = safe(fields.u64(structs.fuse_lseek_in.offset));
	const whence = fields.u32(structs.fuse_lseek_in.whence);
	/* The guest knows the others itself. */
	if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw ErrnoError.of("EINVAL");
	const found = await server.fileSystem.lseek!(handle, offset, whence);
	request.answer(structs.fuse_lseek_out.sizeof).setU64(structs.fuse_lseek_out.offset, found);
}

async function copyFileRange(server: FuseServer, request: FuseRequest): Promise<void> {
	const { fh_in, off_in, fh_out, off_out, len, flags, sizeof } = structs.fuse_copy_file_range_in;
	const fields = request.take(sizeof);
	const from = server.handles.use(fields.u64(fh_in), request);
	const to = server.handles.use(fields.u64(fh_out), request);
	if (fields.u64(flags) !== 0) throw ErrnoError.of("EINVAL");
	const count = await server.fileSystem.copyFileRange!(
		{ open: from, offset: safe(fields.u64(off_in)) },
		{ open: to, offset: safe(fields.u64(off_out)) },
		Math.min(fields.u64(len), MAX_COPY_BYTES),
	);
	request.answer(structs.fuse_write_out.sizeof).setU32(structs.fuse_write_out.size, count);
}

/** By opcode. */
export const fileOperations: Readonly<Record<number, Operation>> = {
	[fuse.FUSE_OPEN]: { run: open },
	[fuse.FUSE_RELEASE]: { run: release },
	[fuse.FUSE_READ]: { run: read, needs: "read", otherwise: "EIO" },
	[fuse.FUSE_WRITE]: { run: write, needs: "write", changes: true, otherwise: "EROFS" },
	[fuse.FUSE_FLUSH]: { run: flush, needs: "flush" },
	[fuse.FUSE_FSYNC]: { run: fsync, needs: "fsync" },
	[fuse.FUSE_FSYNCDIR]: { run: fsync, needs: "fsync" },
	[fuse.FUSE_FALLOCATE]: { run: fallocate, needs: "fallocate", changes: true },
	[fuse.FUSE_LSEEK]: { run: lseek, needs: "lseek" },
	[fuse.FUSE_COPY_FILE_RANGE]: { run: copyFileRange, needs: "copyFileRange", changes: true },
};
