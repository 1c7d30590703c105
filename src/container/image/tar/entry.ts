/*
 * One member of a tar archive (POSIX.1-2017 pax, ustar, GNU long names), and the range of a file that an archive is
 * read from. Paths are byte strings: each character is one byte (latin1). A file name on Linux is bytes, and an image's
 * names must not change. `shown` makes them readable for messages.
 */
import { readSync } from "node:fs";

export type TarType = "file" | "link" | "symlink" | "char" | "block" | "directory" | "fifo";

/** Where the extended attributes are. `readXattrs` (pax.ts) reads them when they are needed. */
export interface TarXattrs {
	/** Attributes of global headers, shared by all members after them. */
	readonly global: ReadonlyMap<string, Buffer>;
	/** The member's own headers, as parts of the range. Their values win over the global ones. */
	readonly headers: readonly { readonly offset: number; readonly size: number }[];
	/** Bytes of their names and values. */
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
	/** Byte string: the target of a symbolic link, or the path of the member that a hard link names. */
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

/** A byte string for a message: quoted, and cut when it is too long. */
export function quoted(path: string): string {
	return path.length <= MAX_QUOTED
		? JSON.stringify(shown(path))
		: `${JSON.stringify(shown(path.slice(0, MAX_QUOTED)))}...`;
}

/** Text as a byte string. */
export function bytePath(text: string): string {
	return Buffer.from(text, "utf8").toString("latin1");
}
