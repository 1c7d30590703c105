/*
 * A disk's file on the host: opened, locked and measured. Without the host's page cache (O_DIRECT), offsets, lengths and
 * addresses of requests have to be multiples of what its device takes, which is found out by reading.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, statfsSync, statSync } from "node:fs";
import { constants as os } from "node:os";
import { errnoName, explain, HostError, ImageError } from "../base/errors.ts";
import { log } from "../base/log.ts";
import { type ByteSource, Segments } from "../base/segments.ts";
import { tryLock } from "../host/file-lock.ts";
import type { When } from "../host/io-ring.ts";
import { errnoNameOf, ioctl } from "../host/libc.ts";
import { GuestRam } from "../host/ram.ts";
import { readSegments } from "../host/scatter.ts";

const SECTOR_BYTES = 512;
/** The largest block of a device, and what every device takes as an address. */
const PAGE_BYTES = 4096;
/** <linux/fs.h>: size of a block device in bytes, and of its physical blocks. */
const BLKGETSIZE64 = 0x8008_1272;
const BLKPBSZGET = 0x127b;
/** <linux/magic.h>. */
const TMPFS_MAGIC = 0x0102_1994;
const MAX_PHYSICAL_BLOCK_BYTES = 65_536;

/** How a disk's file is opened. */
export interface DiskFileOptions {
	/** True: the guest cannot write to it. False when missing. */
	readOnly?: boolean;
	/** True: requests do not go through the host's page cache. False when missing. */
	direct?: boolean;
	/** True: the file is not the disk itself, so its length need not be whole blocks. False when missing. */
	isContainer?: boolean;
	/** The file, open. It is used instead of the path, which then is only a name. The caller closes it. */
	fd?: number;
}

/** A file that is open and locked. */
export interface DiskFile {
	readonly fd: number;
	/** Whole blocks of it, or all of a container. */
	readonly sizeBytes: number;
	/** Offsets and lengths are multiples of this. */
	readonly blockBytes: number;
	/** What the device writes at once. */
	readonly physicalBlockBytes: number;
	/** Addresses are multiples of this; 1 with the page cache. */
	readonly addressAlign: number;
	/** When its reads and writes are done. */
	readonly when: When;
}

/**
 * Opens and locks a disk's file: one writer, or any number of readers.
 *
 * @throws HostError ERR_DISK_OPEN, ERR_DISK_LOCKED, ERR_DISK_DIRECT; ImageError ERR_DISK_SIZE when there is not one block
 *   in it
 */
export function openDiskFile(path: string, options: DiskFileOptions): DiskFile {
	const { readOnly = false, direct = false, isContainer = false, fd: opened } = options;
	const fd = openFile(path, opened, { readOnly, direct });
	try {
		lock(path, fd, readOnly);
		const { blockBytes, addressAlign } = direct ? alignment(path, fd) : { blockBytes: SECTOR_BYTES, addressAlign: 1 };
		const fileBytes = fileSize(path, fd);
		const sizeBytes = !isContainer
			? wholeBlocks(path, fileBytes, blockBytes)
			: direct && !readOnly
				? grow(fd, fileBytes, blockBytes)
				: fileBytes;
		const physicalBlockBytes = Math.max(blockBytes, physicalBlock(fd));
		const when = direct ? "later" : isInMemory(fd) ? "at-once" : "if-cached";
		return { fd, sizeBytes, blockBytes, addressAlign, physicalBlockBytes, when };
	} catch (error) {
		closeSync(fd);
		throw error;
	}
}

function openFile(
	path: string,
	opened: number | undefined,
	{ readOnly, direct }: { readOnly: boolean; direct: boolean },
): number {
	/* Opened again by its descriptor, because locks and the access mode belong to the open file. */
	const file = opened === undefined ? path : `/proc/self/fd/${opened}`;
	try {
		/* Checked before it is opened, because opening a FIFO would wait for its other end. */
		const stat = statSync(file);
		if (!stat.isFile() && !stat.isBlockDevice()) {
			const what = stat.isDirectory() ? "it is a directory" : "it is neither a file nor a block device";
			throw new HostError("ERR_DISK_OPEN", `Cannot open disk ${path}: ${what}`);
		}
		return openSync(file, (readOnly ? constants.O_RDONLY : constants.O_RDWR) | (direct ? constants.O_DIRECT : 0));
	} catch (cause) {
		if (cause instanceof HostError) throw cause;
		if (direct && errnoName(cause) === "EINVAL") throw noDirect(path, cause);
		const denied = !readOnly && ["EACCES", "EPERM", "EROFS"].includes(errnoName(cause) ?? "");
		throw new HostError("ERR_DISK_OPEN", `Cannot open disk ${path}: ${explain(cause)}`, {
			cause,
			hint: denied ? "Give a read-only disk as --disk FILE,ro" : undefined,
		});
	}
}

function lock(path: string, fd: number, readOnly: boolean): void {
	const result = tryLock(fd, readOnly ? "shared" : "exclusive");
	if (result === -os.errno.EAGAIN) {
		throw new HostError("ERR_DISK_LOCKED", `Cannot open disk ${path}: a machine uses it already`, {
			hint: "Stop that machine, or give the disk with ,ro to all of them",
		});
	}
	if (result < 0) log("warn", `disk ${path} is not locked: ${errnoNameOf(-result)}`);
}

/** The smallest block that can be read from the file's beginning, and the smallest multiple of addresses. */
function alignment(path: string, fd: number): { blockBytes: number; addressAlign: number } {
	const ram = GuestRam.map([{ gpa: 0, sizeBytes: 2 * PAGE_BYTES }]);
	try {
		const { hva, buffer } = ram.regions[0]!;
		const source = { hva, bytes: new Uint8Array(buffer) };
		const sizes = Array.from({ length: 4 }, (_, i) => SECTOR_BYTES << i);
		/* Each read goes on where the last one ended, which is a multiple of a block that it could read. */
		const blockBytes = sizes.find((bytes) => canRead(path, fd, { source, at: 0, bytes }));
		if (blockBytes === undefined) throw noDirect(path);
		const addressAlign = sizes.find((at) => canRead(path, fd, { source, at, bytes: blockBytes })) ?? PAGE_BYTES;
		return { blockBytes, addressAlign };
	} finally {
		ram.close();
	}
}

function canRead(
	path: string,
	fd: number,
	{ source, at, bytes }: { source: ByteSource; at: number; bytes: number },
): boolean {
	const into = new Segments();
	into.add(source, at, bytes);
	const result = readSegments(fd, into);
	if (result >= 0 || result === -os.errno.EINVAL) return result >= 0;
	throw new HostError("ERR_DISK_OPEN", `Cannot read disk ${path}: ${errnoNameOf(-result)}`);
}

function noDirect(path: string, cause?: unknown): HostError {
	return new HostError(
		"ERR_DISK_DIRECT",
		`Cannot open disk ${path} without the page cache: its file system does not support O_DIRECT`,
		{ hint: "Leave direct=on out, or copy the disk to another file system", cause },
	);
}

/** Of a block device; 4096 of a file, which file systems and page caches like. */
function physicalBlock(fd: number): number {
	const bytes = new Uint8Array(4);
	const known = fstatSync(fd).isBlockDevice() && ioctl(fd, BLKPBSZGET, bytes) === 0;
	const size = known ? new DataView(bytes.buffer).getUint32(0, true) : PAGE_BYTES;
	return Math.min(Math.max(size, PAGE_BYTES), MAX_PHYSICAL_BLOCK_BYTES);
}

/** A tmpfs does not know RWF_NOWAIT, and only waits for swap. */
function isInMemory(fd: number): boolean {
	return statfsSync(`/proc/self/fd/${fd}`).type === TMPFS_MAGIC;
}

function fileSize(path: string, fd: number): number {
	const stat = fstatSync(fd);
	if (!stat.isBlockDevice()) return stat.size;
	const bytes = new Uint8Array(8);
	const result = ioctl(fd, BLKGETSIZE64, bytes);
	if (result < 0) {
		throw new HostError("ERR_DISK_OPEN", `Cannot read the size of disk ${path}: ${errnoNameOf(-result)}`);
	}
	return Number(new DataView(bytes.buffer).getBigUint64(0, true));
}

/** The end of a container is read and written in whole blocks, too. */
function grow(fd: number, size: number, blockBytes: number): number {
	const whole = Math.ceil(size / blockBytes) * blockBytes;
	if (whole !== size) ftruncateSync(fd, whole);
	return whole;
}

/** @throws ImageError ERR_DISK_SIZE */
function wholeBlocks(path: string, size: number, blockBytes: number): number {
	const whole = size - (size % blockBytes);
	if (whole === 0) {
		throw new ImageError(
			"ERR_DISK_SIZE",
			`Cannot use disk ${path}: its ${size} bytes hold no sector of ${blockBytes} bytes`,
			{ hint: `Make an empty disk of 1 GiB: truncate -s 1G ${path}` },
		);
	}
	if (whole !== size) log("warn", `disk ${path}: the last ${size - whole} bytes are no whole sector and are not used`);
	return whole;
}
