/*
 * readv(2) and writev(2) between a file descriptor and Segments. If every segment has a host address, the bytes go
 * straight into or out of guest RAM. They are copied if one has none (an ordinary ArrayBuffer, as in tests) or there
 * are too many.
 */
import { readSync, writeSync } from "node:fs";
import { constants } from "node:os";
import type { Segments } from "../base/segments.ts";
import { native } from "./native.ts";

/** Linux's UIO_MAXIOV. */
const IOV_MAX = 1024;
const hvas = new Float64Array(IOV_MAX);
const lengths = new Uint32Array(IOV_MAX);
/** More than the largest packet. A longer write is cut short, as writev may do. */
const COPY_BYTES = 128 * 1024;
const copy = Buffer.alloc(COPY_BYTES);

/** Reads once from a stream or packet fd. The number of bytes, or a negative errno. */
export function readSegments(fd: number, into: Segments): number {
	if (addressed(into)) return native().readv(fd, hvas, lengths, into.count);
	/* A hostile driver may give a very long list, but at most one packet comes. */
	const most = Math.min(into.totalBytes, COPY_BYTES);
	const got = copied(() => readSync(fd, copy, 0, most, null));
	if (got > 0) into.copyFrom(copy.subarray(0, got));
	return got;
}

/** Writes once to a stream or packet fd. The number of bytes, or a negative errno. */
export function writeSegments(fd: number, from: Segments): number {
	if (addressed(from)) return native().writev(fd, hvas, lengths, from.count);
	const length = from.copyTo(copy);
	return copied(() => writeSync(fd, copy, 0, length, null));
}

/** Fills the iovec arrays. False when the list does not fit. */
function addressed(list: Segments): boolean {
	if (list.count > IOV_MAX) return false;
	for (let i = 0; i < list.count; i++) {
		const hva = list.hvas[i]!;
		if (hva === 0) return false;
		hvas[i] = hva;
		lengths[i] = list.lengths[i]!;
	}
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
