/*
 * GuestMemory is the only door to guest RAM: every access is checked against the regions, whose addresses (gpa) never
 * overlap. A region is a window of at most 2 GiB on the host's mapping. Larger RAM is several adjacent windows, because
 * an ArrayBuffer is limited. No region covers the hole below 4 GiB:
 *
 *     gpa 0          3 GiB        4 GiB                 4 GiB + rest
 *     |--- window ----|   (hole)   |--- window ---|--- window ---|
 *
 * All addresses are plain numbers: guest-physical addresses are below 2^52 on every CPU, host addresses below 2^47. The
 * typed readers throw MemoryAccessError. Code that uses addresses of the guest calls `contains` first.
 */
import { TsvmmError } from "./errors.ts";
import type { ByteSource } from "./segments.ts";
import { getU64, setU64 } from "./u64.ts";

/** One window of guest RAM. GuestMemory does not own the buffer: the code that mapped it does. */
export interface MemoryRegion {
	/** Guest-physical address of the first byte. */
	readonly gpa: number;
	/** A multiple of 4096, at most 2 GiB. */
	readonly sizeBytes: number;
	/** Host address of the first byte, for iovecs; 0 in tests that use an ordinary ArrayBuffer. */
	readonly hva: number;
	/** The bytes; of length 0 once they are unmapped. */
	readonly buffer: ArrayBuffer;
}

/**
 * An access outside guest RAM. Guest addresses are checked before use, so a user sees this only by a defect of ours.
 */
export class MemoryAccessError extends TsvmmError {
	constructor(gpa: number, length: number) {
		super("ERR_MEMORY_ACCESS", `Cannot access ${length} bytes of guest memory at 0x${gpa.toString(16)}: not RAM`);
	}
}

/** A region with the views that the accessors use; `u16`/`i32` are for ring indices and flags, through Atomics. */
export interface MemoryWindow extends MemoryRegion, ByteSource {
	/** Guest-physical address of the first byte. */
	readonly gpa: number;
	/** Guest-physical address after the last byte. */
	readonly end: number;
	/** All bytes of the region. */
	readonly bytes: Uint8Array;
	/** For fields of any alignment. */
	readonly view: DataView;
	/** For Atomics on ring indices and flags. */
	readonly u16: Uint16Array;
}

/**
 * The guest's RAM by guest-physical address. The readers and writers take little-endian values at any alignment, and
 * throw MemoryAccessError outside RAM. Call `contains` first for an address that the guest wrote.
 */
export class GuestMemory {
	/** All of RAM, sorted by address. */
	readonly windows: readonly MemoryWindow[];
	#last: MemoryWindow;

	/** @param regions sorted or not, not overlapping, each gpa and size a multiple of 4096 */
	constructor(regions: readonly MemoryRegion[]) {
		const windows = regions.map((r) => ({
			...r,
			end: r.gpa + r.sizeBytes,
			bytes: new Uint8Array(r.buffer, 0, r.sizeBytes),
			view: new DataView(r.buffer, 0, r.sizeBytes),
			u16: new Uint16Array(r.buffer, 0, r.sizeBytes >>> 1),
		}));
		this.windows = windows.sort((a, b) => a.gpa - b.gpa);
		this.#last = this.windows[0]!;
	}

	/** Bytes of RAM over all windows. */
	get sizeBytes(): number {
		return this.windows.reduce((sum, w) => sum + w.sizeBytes, 0);
	}

	/** The window that holds all of [gpa, gpa + length), or undefined. A range across two windows has none. */
	find(gpa: number, length: number): MemoryWindow | undefined {
		const last = this.#last;
		if (gpa >= last.gpa && gpa + length <= last.end) return last;
		for (const window of this.windows) {
			if (gpa >= window.gpa && gpa + length <= window.end) {
				this.#last = window;
				return window;
			}
		}
		return undefined;
	}

	/** True when every byte of [gpa, gpa + length) is RAM. The range may cross adjacent windows. False for NaN. */
	contains(gpa: number, length: number): boolean {
		if (!(length >= 0) || !(gpa >= 0)) return false;
		if (this.find(gpa, length) !== undefined) return true;
		const end = gpa + length;
		let at = gpa;
		for (const window of this.windows) {
			if (at >= window.gpa && at < window.end) at = Math.min(end, window.end);
		}
		return at >= end && this.windows.some((w) => gpa >= w.gpa && gpa < w.end);
	}

	#at(gpa: number, length: number): MemoryWindow {
		const window = this.find(gpa, length);
		if (window === undefined) throw new MemoryAccessError(gpa, length);
		return window;
	}

	/** Reads 8 bits. */
	u8(gpa: number): number {
		const w = this.#at(gpa, 1);
		return w.view.getUint8(gpa - w.gpa);
	}
	/** Reads 16 bits. */
	u16(gpa: number): number {
		const w = this.#at(gpa, 2);
		return w.view.getUint16(gpa - w.gpa, true);
	}
	/** Reads 32 bits. */
	u32(gpa: number): number {
		const w = this.#at(gpa, 4);
		return w.view.getUint32(gpa - w.gpa, true);
	}
	/** A 64-bit value as a number: exact below 2^53, which holds for every valid address and length. */
	u64(gpa: number): number {
		const w = this.#at(gpa, 8);
		return getU64(w.view, gpa - w.gpa);
	}
	/** Writes 8 bits. */
	setU8(gpa: number, value: number): void {
		const w = this.#at(gpa, 1);
		w.view.setUint8(gpa - w.gpa, value);
	}
	/** Writes 16 bits. */
	setU16(gpa: number, value: number): void {
		const w = this.#at(gpa, 2);
		w.view.setUint16(gpa - w.gpa, value, true);
	}
	/** Writes 32 bits. */
	setU32(gpa: number, value: number): void {
		const w = this.#at(gpa, 4);
		w.view.setUint32(gpa - w.gpa, value, true);
	}
	/** Stores a number below 2^53 as 64 bits. */
	setU64(gpa: number, value: number): void {
		const w = this.#at(gpa, 8);
		setU64(w.view, gpa - w.gpa, value);
	}

	/** The bytes [gpa, gpa + length) themselves, not a copy. @throws MemoryAccessError across windows or outside RAM */
	bytes(gpa: number, length: number): Uint8Array {
		const w = this.#at(gpa, length);
		return w.bytes.subarray(gpa - w.gpa, gpa - w.gpa + length);
	}

	/** Copies `data` to guest memory. It may cross adjacent windows. @throws MemoryAccessError outside RAM */
	write(gpa: number, data: Uint8Array): void {
		for (let done = 0; done < data.length; ) {
			const w = this.#at(gpa + done, 1);
			const length = Math.min(data.length - done, w.end - gpa - done);
			w.bytes.set(data.subarray(done, done + length), gpa + done - w.gpa);
			done += length;
		}
	}
}
