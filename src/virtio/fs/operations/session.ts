/*
 * The beginning and the end of a mount. FUSE_INIT agrees on what both sides can do.
 */
import { ErrnoError } from "../../../base/errno-error.ts";
import * as fuse from "../constants.ts";
import type { FuseRequest } from "../request.ts";
import type { FuseServer, Operation } from "../server.ts";
import { fuse_init_in, fuse_init_out } from "../structs.ts";

/** Of the driver: virtio-fs came with 7.31 (Linux 5.4). */
const OLDEST_MINOR = 31;
/** Without the fields that came with 7.36. */
const OLD_INIT_BYTES = 16;
/** Most that one READ or WRITE carries. */
const MAX_PAGES = 256;
const PAGE_BYTES = 4096;
/** Requests that the driver sends ahead of need, and where it begins to hold back. */
const MAX_BACKGROUND = 64;
const CONGESTION_THRESHOLD = 48;

/** What every file system of ours can do, where the driver can. */
const FLAGS =
	fuse.FUSE_ASYNC_READ |
	fuse.FUSE_ATOMIC_O_TRUNC |
	fuse.FUSE_BIG_WRITES |
	fuse.FUSE_DO_READDIRPLUS |
	fuse.FUSE_READDIRPLUS_AUTO |
	fuse.FUSE_ASYNC_DIO |
	fuse.FUSE_PARALLEL_DIROPS |
	fuse.FUSE_MAX_PAGES |
	fuse.FUSE_HANDLE_KILLPRIV_V2 |
	fuse.FUSE_INIT_EXT;
/** Of `flags2`, with 7.39: files may be mapped that bypass the page cache. */
const FUSE_DIRECT_IO_ALLOW_MMAP = 1 << 4;

async function init(server: FuseServer, request: FuseRequest): Promise<void> {
	const fields = request.take(OLD_INIT_BYTES);
	const major = fields.u32(fuse_init_in.major);
	const flags = fields.u32(fuse_init_in.flags);
	if (major < fuse.FUSE_KERNEL_VERSION) throw ErrnoError.of("EPROTO");
	const out = request.answer(fuse_init_out.sizeof);
	out.setU32(fuse_init_out.major, fuse.FUSE_KERNEL_VERSION);
	out.setU32(fuse_init_out.minor, fuse.FUSE_KERNEL_MINOR_VERSION);
	/* A newer driver asks again with our version. */
	if (major > fuse.FUSE_KERNEL_VERSION) return;
	if (fields.u32(fuse_init_in.minor) < OLDEST_MINOR) throw ErrnoError.of("EPROTO");
	const extended = (flags & fuse.FUSE_INIT_EXT) !== 0;
	const flags2 = extended ? request.take(fuse_init_in.sizeof - OLD_INIT_BYTES).u32(0) : 0;
	out.setU32(fuse_init_out.max_readahead, fields.u32(fuse_init_in.max_readahead));
	out.setU32(fuse_init_out.flags, (flags & (FLAGS | server.cache.initFlags)) >>> 0);
	out.setU32(fuse_init_out.flags2, flags2 & FUSE_DIRECT_IO_ALLOW_MMAP);
	out.setU16(fuse_init_out.max_background, MAX_BACKGROUND);
	out.setU16(fuse_init_out.congestion_threshold, CONGESTION_THRESHOLD);
	out.setU32(fuse_init_out.max_write, MAX_PAGES * PAGE_BYTES);
	out.setU32(fuse_init_out.time_gran, 1);
	out.setU16(fuse_init_out.max_pages, MAX_PAGES);
	server.forgetAll();
	server.isMounted = true;
}

async function destroy(server: FuseServer): Promise<void> {
	server.forgetAll();
}

/** By opcode. */
export const sessionOperations: Readonly<Record<number, Operation>> = {
	[fuse.FUSE_INIT]: { run: init },
	[fuse.FUSE_DESTROY]: { run: destroy },
};
