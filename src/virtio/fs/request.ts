/*
 * One FUSE request in flight: a copy of what the driver wrote, and the answer until it is written to the chain. There
 * is one per head index, made at its first use.
 *
 *     chain.readable:  fuse_in_header | struct of the opcode | names, data
 *     chain.writable:  fuse_out_header | answer
 *
 * The bytes of WRITE and READ are not copied: `data` and `room` are pieces of the guest's own memory.
 */
import { ErrnoError } from "../../base/errno-error.ts";
import { decodeName } from "../../base/file-name.ts";
import { Segments } from "../../base/segments.ts";
import { getU64, setU64 } from "../../base/u64.ts";
import type { Chain, Virtqueue } from "../queue.ts";
import { FUSE_BATCH_FORGET, FUSE_FORGET, FUSE_WRITE } from "./constants.ts";
import { fuse_in_header, fuse_out_header, fuse_write_in } from "./structs.ts";

const IN_BYTES = fuse_in_header.sizeof;
const OUT_BYTES = fuse_out_header.sizeof;
/** Longest request whose bytes are copied: an extended attribute of 64 KiB with its name, or many inodes to forget. */
const MAX_COPIED_BYTES = 128 * 1024;
const FIRST_BYTES = 512;
/** Longest name, and longest path (a symbolic link's). */
const NAME_MAX = 255;
const PATH_MAX = 4095;

export class FuseRequest {
	/** The chain that asks; undefined when there is none. */
	chain: Chain | undefined;
	queue: Virtqueue | undefined;
	/** The driver has reset the device: the answer is dropped. */
	stale = false;
	opcode = 0;
	nodeid = 0;
	uid = 0;
	gid = 0;
	/** The data of a WRITE. */
	readonly data = new Segments();
	/** Where the data of a READ goes. */
	readonly room = new Segments();
	/** Bytes of the answer that are in the chain already, after the header. */
	filledBytes = 0;
	/** Steps for the request's end, which release what it uses. */
	readonly onEnd: (() => void)[] = [];
	/** Header and struct. */
	#bytes = Buffer.alloc(FIRST_BYTES);
	#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, FIRST_BYTES);
	#length = 0;
	/** Where the next name begins. */
	#cursor = 0;
	#answer = Buffer.alloc(FIRST_BYTES);
	#answerView = new DataView(this.#answer.buffer, this.#answer.byteOffset, FIRST_BYTES);
	#answerBytes = 0;

	/** Takes a chain. False when it has no request, so that it cannot be answered. */
	begin(chain: Chain, queue: Virtqueue): boolean {
		this.chain = chain;
		this.queue = queue;
		this.stale = false;
		this.filledBytes = 0;
		this.#answerBytes = 0;
		this.opcode = 0;
		const { readable } = chain;
		if (readable.copyTo(this.#bytes.subarray(0, IN_BYTES)) < IN_BYTES) return false;
		const view = this.#view;
		const length = view.getUint32(fuse_in_header.len, true);
		this.opcode = view.getUint32(fuse_in_header.opcode, true);
		this.nodeid = getU64(view, fuse_in_header.nodeid);
		this.uid = view.getUint32(fuse_in_header.uid, true);
		this.gid = view.getUint32(fuse_in_header.gid, true);
		if (length < IN_BYTES || length > readable.totalBytes) return false;
		const copied = this.opcode === FUSE_WRITE ? Math.min(length, IN_BYTES + fuse_write_in.sizeof) : length;
		if (copied > MAX_COPIED_BYTES) return false;
		this.#reserve(copied);
		readable.copyTo(this.#bytes.subarray(IN_BYTES, copied), IN_BYTES);
		if (this.opcode === FUSE_WRITE) readable.slice(copied, length - copied, this.data);
		this.#length = copied;
		this.#cursor = IN_BYTES;
		return true;
	}

	/** Whether the driver waits for an answer. */
	get wantsAnswer(): boolean {
		return this.opcode !== FUSE_FORGET && this.opcode !== FUSE_BATCH_FORGET;
	}

	/** The struct of the opcode, `bytes` long; names come after it. @throws ErrnoError EINVAL when it is not all there */
	take(bytes: number): Fields {
		if (this.#length - this.#cursor < bytes) throw ErrnoError.of("EINVAL");
		const fields = new Fields(this.#view, this.#cursor);
		this.#cursor += bytes;
		return fields;
	}

	/** The next bytes, not a copy; valid until the request ends. @throws ErrnoError EINVAL when there are fewer */
	takeBytes(count: number): Uint8Array {
		if (this.#length - this.#cursor < count) throw ErrnoError.of("EINVAL");
		this.#cursor += count;
		return this.#bytes.subarray(this.#cursor - count, this.#cursor);
	}

	/** The next text up to its NUL. @throws ErrnoError EINVAL, ENAMETOOLONG */
	takeText(longest = PATH_MAX): string {
		const end = this.#bytes.subarray(0, this.#length).indexOf(0, this.#cursor);
		if (end < 0 || end === this.#cursor) throw ErrnoError.of("EINVAL");
		if (end - this.#cursor > longest) throw ErrnoError.of("ENAMETOOLONG");
		const text = decodeName(this.#bytes.subarray(this.#cursor, end));
		this.#cursor = end + 1;
		return text;
	}

	/** The next name, which is one in a directory and leads nowhere else. @throws ErrnoError EINVAL, ENAMETOOLONG */
	takeName(): string {
		const name = this.takeText(NAME_MAX);
		if (name === "." || name === ".." || name.includes("/")) throw ErrnoError.of("EINVAL");
		return name;
	}

	/** Room for an answer's struct, zeroed. Answers come one after the other. */
	answer(bytes: number): Fields {
		const at = this.#answerBytes;
		this.#answerBytes += bytes;
		if (this.#answerBytes > this.#answer.length) {
			const larger = Buffer.alloc(Math.max(this.#answerBytes, 2 * this.#answer.length));
			this.#answer.copy(larger);
			this.#answer = larger;
			this.#answerView = new DataView(larger.buffer, larger.byteOffset, larger.length);
		}
		this.#answer.fill(0, at, this.#answerBytes);
		return new Fields(this.#answerView, at);
	}

	/** Adds bytes to the answer. */
	answerBytes(bytes: Uint8Array): void {
		const { at } = this.answer(bytes.length);
		this.#answer.set(bytes, at);
	}

	/** Room that is left in the chain for an answer, in bytes. */
	get roomBytes(): number {
		return this.chain!.writable.totalBytes - OUT_BYTES - this.#answerBytes;
	}

	/** Where `size` bytes of data go, or as many as there is room for. */
	dataRoom(size: number): Segments {
		return this.chain!.writable.slice(OUT_BYTES, Math.max(0, Math.min(size, this.roomBytes)), this.room);
	}

	/** Writes the answer into the chain; how many bytes it has. An error is the header alone. */
	finish(errno: number): number {
		const { writable } = this.chain!;
		if (writable.totalBytes < OUT_BYTES) return 0;
		const fits = this.#answerBytes + this.filledBytes <= writable.totalBytes - OUT_BYTES;
		/* A driver that has no room for an answer cannot use it. */
		const error = errno === 0 && !fits ? 75 /* EOVERFLOW */ : errno;
		const total = error === 0 ? OUT_BYTES + this.#answerBytes + this.filledBytes : OUT_BYTES;
		HEADER.setUint32(fuse_out_header.len, total, true);
		HEADER.setInt32(fuse_out_header.error, -error, true);
		HEADER.setUint32(fuse_out_header.unique, this.#view.getUint32(fuse_in_header.unique, true), true);
		HEADER.setUint32(fuse_out_header.unique + 4, this.#view.getUint32(fuse_in_header.unique + 4, true), true);
		writable.copyFrom(HEADER_BYTES);
		if (error === 0) writable.copyFrom(this.#answer.subarray(0, this.#answerBytes), OUT_BYTES);
		return total;
	}

	/** Lets go of the chain and of all that was used. */
	end(): void {
		for (const undo of this.onEnd.splice(0)) undo();
		this.chain = undefined;
		this.queue = undefined;
	}

	#reserve(bytes: number): void {
		if (bytes <= this.#bytes.length) return;
		const larger = Buffer.alloc(bytes);
		this.#bytes.copy(larger);
		this.#bytes = larger;
		this.#view = new DataView(larger.buffer, larger.byteOffset, larger.length);
	}
}

const HEADER_BYTES = new Uint8Array(OUT_BYTES);
const HEADER = new DataView(HEADER_BYTES.buffer);

/** A struct somewhere in a buffer: `fields.u32(fuse_open_in.flags)`. */
export class Fields {
	/** Where it begins. */
	readonly at: number;
	readonly #view: DataView;

	constructor(view: DataView, at: number) {
		this.#view = view;
		this.at = at;
	}

	u32(offset: number): number {
		return this.#view.getUint32(this.at + offset, true);
	}

	/** Exact below 2^53; larger ones are larger. */
	u64(offset: number): number {
		return getU64(this.#view, this.at + offset);
	}

	/** All of its bits. */
	bits(offset: number): bigint {
		return this.#view.getBigUint64(this.at + offset, true);
	}

	setU16(offset: number, value: number): void {
		this.#view.setUint16(this.at + offset, value, true);
	}

	setU32(offset: number, value: number): void {
		this.#view.setUint32(this.at + offset, value, true);
	}

	setU64(offset: number, value: number | bigint): void {
		if (typeof value === "bigint") this.#view.setBigUint64(this.at + offset, BigInt.asUintN(64, value), true);
		else setU64(this.#view, this.at + offset, value);
	}

	/** Seconds since 1970, which may be before it. */
	setS64(offset: number, value: number): void {
		if (value >= 0) setU64(this.#view, this.at + offset, value);
		else this.#view.setBigInt64(this.at + offset, BigInt(value), true);
	}

	s64(offset: number): number {
		return Number(this.#view.getBigInt64(this.at + offset, true));
	}
}
