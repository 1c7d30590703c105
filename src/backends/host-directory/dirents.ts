/*
 * The entries of an open directory, in pieces as the host gives them (getdents64).
 *
 *     struct linux_dirent64: d_ino u64 | d_off u64 | d_reclen u16 | d_type u8 | d_name, NUL
 */
import { decodeName } from "../../base/file-name.ts";
import { getU64 } from "../../base/u64.ts";
import type { FileCalls } from "../../host/file-calls.ts";
import type { DirectoryEntry } from "../contract.ts";

const D_OFF = 8;
const D_RECLEN = 16;
const D_TYPE = 18;
const D_NAME = 19;
/** DT_DIR is S_IFDIR >> 12. */
const TYPE_SHIFT = 12;
const SEEK_SET = 0;

/** A piece of a directory: the guest reads on in it as far as it reaches. */
export class DirectoryReader {
	readonly #calls: FileCalls;
	readonly #fd: number;
	/** The entries of the last piece, where it begins, and where the next one does. */
	#entries: DirectoryEntry[] = [];
	#start = -1n;
	#end = 0n;

	constructor(calls: FileCalls, fd: number) {
		this.#calls = calls;
		this.#fd = fd;
	}

	/** Entries from `position` on, without "." and ".."; none at the end. */
	async read(position: bigint): Promise<readonly DirectoryEntry[]> {
		if (position !== 0n) {
			const rest = this.#rest(position);
			if (rest.length > 0) return rest;
		}
		if (position !== this.#end || position === 0n) await this.#calls.lseek(this.#fd, position, SEEK_SET);
		this.#end = position;
		do {
			this.#start = this.#end;
			const bytes = await this.#calls.getdents64(this.#fd);
			if (bytes.length === 0) return [];
			this.#parse(bytes);
		} while (this.#entries.length === 0);
		return this.#entries;
	}

	/** What the last piece has from `position` on. */
	#rest(position: bigint): DirectoryEntry[] {
		if (position === this.#start) return this.#entries;
		return this.#entries.slice(this.#entries.findIndex((entry) => entry.position === position) + 1 || Infinity);
	}

	#parse(bytes: Buffer): void {
		const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
		this.#entries = [];
		for (let at = 0; at < bytes.length; at += view.getUint16(at + D_RECLEN, true)) {
			this.#end = view.getBigUint64(at + D_OFF, true);
			const name = decodeName(bytes.subarray(at + D_NAME, bytes.indexOf(0, at + D_NAME)));
			if (name === "." || name === "..") continue;
			const mode = view.getUint8(at + D_TYPE) << TYPE_SHIFT;
			this.#entries.push({ name, mode, ino: getU64(view, at), position: this.#end });
		}
	}
}
