/*
 * A scatter-gather list of host bytes. A descriptor chain becomes two of them once its guest addresses are checked: one
 * for the bytes that the device reads, one for those that it writes. Lists are reused, not reallocated. A backend sees
 * only these lists: it uses the bytes in TypeScript, or the host addresses in system calls.
 */

/** Where bytes live: a view of them and the host address of the view's first byte (0 when there is none, in tests). */
export interface ByteSource {
	/** The view. */
	readonly bytes: Uint8Array;
	/** Host address of its first byte, or 0. */
	readonly hva: number;
	/** Guest-physical address of its first byte; missing when it is not the guest's. */
	readonly gpa?: number;
}

/**
 * For copies up to this size (headers, status bytes) a loop is quicker than `set` on a new subarray, and allocates
 * nothing.
 */
const SMALL_BYTES = 32;

/** A list of pieces of host memory: one side of a descriptor chain, guest addresses checked. */
export class Segments {
	/** Number of segments in use. */
	count = 0;
	/** Sum of all lengths, in bytes. */
	totalBytes = 0;
	/** Host address of each segment, for iovecs; 0 when its source has none. Entries at and above `count` are stale. */
	readonly hvas: number[] = [];
	/** Length of each segment in bytes. */
	readonly lengths: number[] = [];
	readonly #sources: ByteSource[] = [];
	readonly #starts: number[] = [];
	/** Bytes before the offset that `#seek` looked for, in the segment that it found. */
	#skip = 0;

	/** Empties the list, keeping its storage. */
	clear(): void {
		this.count = 0;
		this.totalBytes = 0;
	}

	/** Appends `length` bytes of `source` from `start`. The caller has checked the range. */
	add(source: ByteSource, start: number, length: number): void {
		const i = this.count++;
		this.#sources[i] = source;
		this.#starts[i] = start;
		this.hvas[i] = source.hva === 0 ? 0 : source.hva + start;
		this.lengths[i] = length;
		this.totalBytes += length;
	}

	/** Appends the part [offset, offset + length) of `other`, cut short at its end. */
	append(other: Segments, offset = 0, length = Number.POSITIVE_INFINITY): void {
		let i = other.#seek(offset);
		let skip = other.#skip;
		let rest = length;
		for (; i < other.count && rest > 0; i++) {
			const take = Math.min(other.lengths[i]! - skip, rest);
			if (take > 0) this.add(other.#sources[i]!, other.#starts[i]! + skip, take);
			rest -= take;
			skip = 0;
		}
	}

	/** The bytes of segment `i` themselves, not a copy. */
	bytes(i: number): Uint8Array {
		const start = this.#starts[i]!;
		return this.#sources[i]!.bytes.subarray(start, start + this.lengths[i]!);
	}

	/** Where segment `i` begins: its source, and the offset in that. @internal */
	place(i: number): { readonly source: ByteSource; readonly start: number } {
		return { source: this.#sources[i]!, start: this.#starts[i]! };
	}

	/** Makes `into` the part [offset, offset + length) of this list, cut short at the end. Returns `into`. */
	slice(offset: number, length: number, into: Segments): Segments {
		into.clear();
		into.append(this, offset, length);
		return into;
	}

	/** Copies into `target` from byte `offset` of the list. Returns how many bytes were copied. */
	copyTo(target: Uint8Array, offset = 0): number {
		let i = this.#seek(offset);
		let skip = this.#skip;
		let done = 0;
		for (; i < this.count && done < target.length; i++) {
			const take = Math.min(this.lengths[i]! - skip, target.length - done);
			const start = this.#starts[i]! + skip;
			const { bytes } = this.#sources[i]!;
			if (take > SMALL_BYTES) target.set(bytes.subarray(start, start + take), done);
			else for (let at = 0; at < take; at++) target[done + at] = bytes[start + at]!;
			done += take;
			skip = 0;
		}
		return done;
	}

	/** Copies `source` into the list from byte `offset`. Returns how many bytes were copied. */
	copyFrom(source: Uint8Array, offset = 0): number {
		let i = this.#seek(offset);
		let skip = this.#skip;
		let done = 0;
		for (; i < this.count && done < source.length; i++) {
			const take = Math.min(this.lengths[i]! - skip, source.length - done);
			const start = this.#starts[i]! + skip;
			const { bytes } = this.#sources[i]!;
			if (take > SMALL_BYTES) bytes.set(source.subarray(done, done + take), start);
			else for (let at = 0; at < take; at++) bytes[start + at] = source[done + at]!;
			done += take;
			skip = 0;
		}
		return done;
	}

	/** Zeroes every byte. */
	zero(): void {
		for (let i = 0; i < this.count; i++) this.bytes(i).fill(0);
	}

	/** The index of the segment with byte `offset` of the list, or `count` when the list is shorter. Sets `#skip`. */
	#seek(offset: number): number {
		let skip = offset;
		let i = 0;
		for (; i < this.count && skip >= this.lengths[i]!; i++) skip -= this.lengths[i]!;
		this.#skip = skip;
		return i;
	}
}
