/*
 * What statx(2) says of a node, out of a struct statx (<linux/stat.h>).
 */
import { struct } from "../base/struct.ts";
import { getU64 } from "../base/u64.ts";
import { STATX_BTIME } from "./syscall-numbers.ts";

export const statx_timestamp = struct("statx_timestamp", { tv_sec: "s64", tv_nsec: "u32", __reserved: "s32" });

/** Its beginning: all that a file system needs. */
export const statx = struct("statx", {
	stx_mask: "u32",
	stx_blksize: "u32",
	stx_attributes: "u64",
	stx_nlink: "u32",
	stx_uid: "u32",
	stx_gid: "u32",
	stx_mode: "u16",
	__spare0: "u16",
	stx_ino: "u64",
	stx_size: "u64",
	stx_blocks: "u64",
	stx_attributes_mask: "u64",
	stx_atime: statx_timestamp,
	stx_btime: statx_timestamp,
	stx_ctime: statx_timestamp,
	stx_mtime: statx_timestamp,
	stx_rdev_major: "u32",
	stx_rdev_minor: "u32",
	stx_dev_major: "u32",
	stx_dev_minor: "u32",
});

/** Size of the whole struct, which the kernel fills. */
export const STATX_BYTES = 256;

/** What stat(2) says. */
export interface FileStatus {
	/** Of the file system, as one number. */
	readonly dev: number;
	readonly ino: number | bigint;
	readonly mode: number;
	readonly nlink: number;
	readonly uid: number;
	readonly gid: number;
	/** As Linux encodes a device number in 32 bits. */
	readonly rdev: number;
	readonly size: number;
	readonly blocks: number;
	readonly blksize: number;
	readonly atime: number;
	readonly atimensec: number;
	readonly mtime: number;
	readonly mtimensec: number;
	readonly ctime: number;
	readonly ctimensec: number;
}

export function parseStatx(view: DataView): FileStatus {
	const u32 = (at: number) => view.getUint32(at, true);
	const seconds = (at: number) => Number(view.getBigInt64(at + statx_timestamp.tv_sec, true));
	const nanoseconds = (at: number) => u32(at + statx_timestamp.tv_nsec);
	const ino = getU64(view, statx.stx_ino);
	return {
		dev: u32(statx.stx_dev_major) * 2 ** 20 + u32(statx.stx_dev_minor),
		ino: Number.isSafeInteger(ino) ? ino : view.getBigUint64(statx.stx_ino, true),
		mode: view.getUint16(statx.stx_mode, true),
		nlink: u32(statx.stx_nlink),
		uid: u32(statx.stx_uid),
		gid: u32(statx.stx_gid),
		rdev: encodeDevice(u32(statx.stx_rdev_major), u32(statx.stx_rdev_minor)),
		size: getU64(view, statx.stx_size),
		blocks: getU64(view, statx.stx_blocks),
		blksize: u32(statx.stx_blksize),
		atime: seconds(statx.stx_atime),
		atimensec: nanoseconds(statx.stx_atime),
		mtime: seconds(statx.stx_mtime),
		mtimensec: nanoseconds(statx.stx_mtime),
		ctime: seconds(statx.stx_ctime),
		ctimensec: nanoseconds(statx.stx_ctime),
	};
}

/** By what a file is known again, when another one may have got its name or its inode since. */
export interface FileIdentity {
	readonly mode: number;
	readonly ino: bigint;
	/** When the inode was made, in ns since 1970; 0 where the file system does not know. */
	readonly born: bigint;
}

export function parseIdentity(view: DataView): FileIdentity {
	const isKnown = (view.getUint32(statx.stx_mask, true) & STATX_BTIME) !== 0;
	const seconds = view.getBigInt64(statx.stx_btime + statx_timestamp.tv_sec, true);
	const nanoseconds = view.getUint32(statx.stx_btime + statx_timestamp.tv_nsec, true);
	return {
		mode: view.getUint16(statx.stx_mode, true),
		ino: view.getBigUint64(statx.stx_ino, true),
		born: isKnown ? BigInt.asUintN(64, seconds * 1_000_000_000n + BigInt(nanoseconds)) : 0n,
	};
}

/** new_encode_dev of <linux/kdev_t.h>. */
function encodeDevice(major: number, minor: number): number {
	return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}
