/*
 * readv(2) and writev(2) between a file descriptor and Segments. If every segment has a host address, the bytes go
 * straight into or out of guest RAM. They are copied if one has none (an ordinary ArrayBuffer, as in tests) or there
 * are too many.
 */
import { readSync, writeSync } from "node:fs";
import { constants } from "node:os";
import type { Segments } from "../base/segments.ts";
import { addressOf } from "./libc.ts";
import { native } from "./native.ts";

/** Linux's UIO_MAXIOV. */
const IOV_MAX = 1024;
const hvas = new Float64Array(IOV_MAX);
const lengths = new Uint32Array(IOV_MAX);
/** More than the largest packet. A longer write is cut short, as writev may do. */
const COPY_BYTES = 128 * 1024;
const copy = Buffer.alloc(COPY_BYTES);
/** Its host address. */
let copyHva: number | undefined;

/** Reads once from a stream or packet fd. The number of bytes, or a negative errno. */
export function readSegments(fd: number, into: Segments): number {
	if (addressed(into)) return native().readv(fd, hvas, lengths, into.count);
	/* A hostile driver may give a very long list, but at most one packet comes. */
	const most = Math.min(into.totalBytes, COPY_BYTES);
	const got = copied(() => readSync(fd, copy, 0, most, null));
	if (got > 0) into.copyFrom(copy.subarray(0, got));
	return got;
}

/**
 * Writes once to a stream or packet fd: `head`, which is short, then `from`. The number of bytes, or a negative
 * errno.
 */
export function writeSegments(fd: number, from: Segments, head?: Uint8Array): number {
	if (addressed(from, head)) {
		return native().writev(fd, hvas, lengths, from.count + (head === undefined ? 0 : 1));
	}
	const headBytes = head === undefined ? 0 : head.length;
	if (head !== undefined) copy.set(head);
	const length = headBytes + from.copyTo(copy.subarray(headBytes));
	return copied(() => writeSync(fd, copy, 0, length, null));
}

/** Fills the iovec arrays. False when the list does not fit. */
function addressed(list: Segments, head?: Uint8Array): boolean {
	const first = head === undefined ? 0 : 1;
	if (first + list.count > IOV_MAX) return false;
	for (let i = 0; i < list.count; i++) {
		const hva = list.hvas[i]!;
		if (hva === 0) return false;
		hvas[first + i] = hva;
		lengths[first + i] = list.lengths[i]!;
	}
	if (head === undefined) return true;
	copy.set(head);
	hvas[0] = copyHva ??= Number(addressOf(copy));
	lengths[0] = head.length;
	return true;
}

/** Node's synchronous calls throw. Their errno is negative, as libuv's. */
function copied(call: () => number): number {
	try {
		return call();
	} catch (error) {
		const errno = error instanceof Error && "errno" in error ? Number(error.errno) : Number.NaN;
		return errno < 0 ? errno : -constants.errno.EIO;
	}
}
