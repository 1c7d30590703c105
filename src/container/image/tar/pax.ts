/*
 * Extended headers of tar archives (POSIX.1-2017, pax): "LENGTH KEY=VALUE\n" records before a member (x) or for all
 * members that follow (g). Only the keys that are needed are kept. Extended attributes (SCHILY.xattr.NAME) may be
 * large: a member keeps the position of its own header, which is read again when they are needed. Members share those
 * of the global headers before them.
 */
import { MAX_FILE_XATTRS, tooLarge } from "../budget.ts";
import { malformed } from "../failure.ts";
import { type FileRange, readRange, type TarXattrs } from "./entry.ts";

/** Most bytes of extended headers (pax, GNU long names, labels) between two members. Names are at most 4 KiB. */
const MAX_EXTENSION = 1024 * 1024;

const XATTR = "SCHILY.xattr.";
const SPARSE = "GNU.sparse.";
const FIELDS = ["path", "linkpath", "size", "uid", "gid", "mtime"] as const;
export type PaxField = (typeof FIELDS)[number];
const isField = (key: string): key is PaxField => (FIELDS as readonly string[]).includes(key);

/** A header's own block. It counts like its content, because many small headers cost time, too. */
const BLOCK = 512;
const NO_XATTRS: ReadonlyMap<string, Buffer> = new Map();
const NO_HEADERS: TarXattrs["headers"] = [];

/** The values of all extended headers so far, for the next member. */
export class PaxState {
	readonly #range: FileRange;
	readonly #file: string;
	readonly #global = new Map<PaxField, string>();
	readonly #local = new Map<PaxField, string>();
	#globalSparse = false;
	#localSparse = false;
	#globalXattrs = NO_XATTRS;
	#globalXattrBytes = 0;
	#headers = NO_HEADERS;
	#xattrBytes = 0;
	/** Bytes of all headers since the last member. */
	#headerBytes = 0;

	constructor(range: FileRange, file: string) {
		this.#range = range;
		this.#file = file;
	}

	/** A field as a byte string. The member's own header wins over a global one. */
	get(field: PaxField): string | undefined {
		return this.#local.get(field) ?? this.#global.get(field);
	}

	get isSparse(): boolean {
		return this.#localSparse || this.#globalSparse;
	}

	/** Undefined when the member has none. */
	get xattrs(): TarXattrs | undefined {
		const bytes = this.#globalXattrBytes + this.#xattrBytes;
		return bytes === 0 ? undefined : { global: this.#globalXattrs, headers: this.#headers, bytes };
	}

	/** Counts a header. @throws ImageError ERR_IMAGE_MALFORMED beyond MAX_EXTENSION */
	count(offset: number, size: number): void {
		this.#headerBytes += BLOCK + size;
		if (this.#headerBytes <= MAX_EXTENSION) return;
		throw malformed(this.#file, `${this.#headerBytes} bytes of extended headers before the member at byte ${offset}`);
	}

	/** Takes an x header's records. @throws ImageError ERR_IMAGE_MALFORMED, ERR_IMAGE_TOO_LARGE */
	addLocal(offset: number, size: number): void {
		let xattrBytes = 0;
		for (const { key, value, length } of paxRecords(this.#read(offset, size), this.#file)) {
			if (isField(key)) this.#local.set(key, value.toString("latin1"));
			else if (key.startsWith(XATTR)) xattrBytes += length;
			else if (key.startsWith(SPARSE)) this.#localSparse = true;
		}
		if (xattrBytes === 0) return;
		/* A new list, because earlier members may have the old one. */
		this.#headers = [...this.#headers, { offset, size }];
		this.#xattrBytes += xattrBytes;
		this.#checkXattrs();
	}

	/** Takes a g header's records. @throws as addLocal */
	addGlobal(offset: number, size: number): void {
		const found = new Map<string, Buffer>();
		for (const { key, value, length } of paxRecords(this.#read(offset, size), this.#file)) {
			if (isField(key)) this.#global.set(key, value.toString("latin1"));
			else if (key.startsWith(SPARSE)) this.#globalSparse = true;
			else if (key.startsWith(XATTR)) {
				found.set(key.slice(XATTR.length), Buffer.from(value));
				this.#globalXattrBytes += length;
				this.#checkXattrs();
			}
		}
		if (found.size === 0) return;
		this.#globalXattrBytes += BLOCK;
		this.#checkXattrs();
		/* A new map: members before this header keep the old one. */
		this.#globalXattrs = new Map([...this.#globalXattrs, ...found]);
	}

	/** Takes a GNU long name (L) or long link (K). @throws ImageError ERR_IMAGE_MALFORMED */
	addLongName(field: "path" | "linkpath", offset: number, size: number): void {
		const data = this.#read(offset, size);
		const nul = data.indexOf(0);
		this.#local.set(field, data.toString("latin1", 0, nul < 0 ? data.length : nul));
	}

	/** The member is read, so its own headers end here. */
	next(): void {
		this.#local.clear();
		this.#localSparse = false;
		this.#headerBytes = 0;
		this.#xattrBytes = 0;
		this.#headers = NO_HEADERS;
	}

	#read(offset: number, size: number): Buffer {
		return readRange(this.#range, offset, size);
	}

	#checkXattrs(): void {
		const bytes = this.#globalXattrBytes + this.#xattrBytes;
		if (bytes <= MAX_FILE_XATTRS) return;
		throw tooLarge(this.#file, bytes, "bytes of extended attributes of one file", MAX_FILE_XATTRS);
	}
}

/** The attributes of a member by name, read from the archive that it is in. */
export function readXattrs(range: FileRange, xattrs: TarXattrs | undefined, file: string): Map<string, Buffer> {
	const found = new Map(xattrs?.global);
	for (const { offset, size } of xattrs?.headers ?? []) {
		for (const { key, value } of paxRecords(readRange(range, offset, size), file)) {
			if (key.startsWith(XATTR)) found.set(key.slice(XATTR.length), value);
		}
	}
	return found;
}

/** The records of a header. LENGTH counts its own digits, and a value may have any bytes. */
function* paxRecords(data: Buffer, file: string): Generator<{ key: string; value: Buffer; length: number }> {
	for (let at = 0; at < data.length; ) {
		const space = data.indexOf(0x20, at);
		const digits = space < 0 || space > at + 7 ? "" : data.toString("latin1", at, space);
		const length = /^\d{1,7}$/.test(digits) ? Number(digits) : 0;
		const end = at + length;
		const equals = data.indexOf(0x3d, space);
		if (length < 5 || end > data.length || data[end - 1] !== 0x0a || equals < 0 || equals >= end) {
			throw malformed(file, "a damaged pax header");
		}
		yield { key: data.toString("latin1", space + 1, equals), value: data.subarray(equals + 1, end - 1), length };
		at = end;
	}
}
