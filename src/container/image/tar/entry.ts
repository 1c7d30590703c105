/*
 * One member of a tar archive (POSIX.1-2017 pax, ustar, GNU long names), and the bytes that archives are read from.
 * Paths are byte strings: each character is one byte (latin1), because a file name on Linux is bytes and an image must
 * come out as it went in. `shown` makes them readable for messages.
 */
import { readSync } from "node:fs";

export type TarType = "file" | "link" | "symlink" | "char" | "block" | "directory" | "fifo";

/** Extended attributes, not held: `readXattrs` (pax.ts) reads them where they stand. */
export interface TarXattrs {
	/** Those of global headers, shared by all members that have them. */
	readonly global: ReadonlyMap<string, Buffer>;
	/** The member's own headers, as parts of the range that was read; these come before the global ones. */
	readonly headers: readonly { readonly offset: number; readonly size: number }[];
	/** Their names and values together. */
	readonly bytes: number;
}

export interface TarEntry {
	/** Byte string, as in the archive: may begin with "./" or "/" or end with "/". */
	path: string;
	type: TarType;
	/** Permission bits with setuid, setgid and sticky. */
	mode: number;
	uid: number;
	gid: number;
	/** Seconds since the epoch; may be negative or beyond 2^32 in an archive. */
	mtime: number;
	/** Byte string: what a symbolic link says, or the path of the member that a hard link names. */
	target: string;
	major: number;
	minor: number;
	/** Undefined when there are none. */
	xattrs: TarXattrs | undefined;
	/** Content in bytes, and where it begins in the range that was read. */
	size: number;
	offset: number;
}

/** Part of an open file; offsets are from `start`. */
export interface FileRange {
	readonly fd: number;
	readonly start: number;
	readonly size: number;
}

/** Reads up to `length` bytes at `offset` of the range; shorter at its end. */
export function readRange(range: FileRange, offset: number, length: number): Buffer {
	const wanted = Math.max(0, Math.min(length, range.size - offset));
	const buffer = Buffer.allocUnsafe(wanted);
	let done = 0;
	while (done < wanted) {
		const count = readSync(range.fd, buffer, done, wanted - done, range.start + offset + done);
		if (count === 0) break;
		done += count;
	}
	return buffer.subarray(0, done);
}

const MAX_QUOTED = 100;
const CHUNK = 1024 * 1024;

/** The bytes [offset, offset + length) of the range, in chunks. */
export function* chunks(range: FileRange, offset = 0, length = range.size - offset): Generator<Buffer> {
	for (let done = 0; done < length; ) {
		const chunk = readRange(range, offset + done, Math.min(CHUNK, length - done));
		if (chunk.length === 0) return;
		yield chunk;
		done += chunk.length;
	}
}

/** A byte string as a person reads it. */
export function shown(path: string): string {
	return Buffer.from(path, "latin1").toString("utf8");
}

/** A byte string in a message: quoted, and cut when a hostile archive made it long. */
export function quoted(path: string): string {
	return path.length <= MAX_QUOTED
		? JSON.stringify(shown(path))
		: `${JSON.stringify(shown(path.slice(0, MAX_QUOTED)))}...`;
}

/** Text as a byte string. */
export function bytePath(text: string): string {
	return Buffer.from(text, "utf8").toString("latin1");
}
