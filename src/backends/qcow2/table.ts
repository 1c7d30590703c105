/*
 * A table of 64-bit offsets that is in memory as a whole: the L1 table or the refcount table. A change is written at once,
 * with the block around it.
 */
import { Segments } from "../../base/segments.ts";
import { GuestRam } from "../../host/ram.ts";
import type { ImageFile } from "./image-file.ts";

const PAGE_BYTES = 4096;
const ENTRY_BYTES = 8;
/** The flags above and below the bits 9 to 55 of an offset. */
export const COPIED = 0x8000_0000;
const OFFSET_HIGH = 0x00ff_ffff;
const OFFSET_LOW = 0xffff_fe00;

/** The offset in an entry of a table, without flags. */
export function offsetIn(view: DataView, at: number): number {
	return (view.getUint32(at) & OFFSET_HIGH) * 2 ** 32 + ((view.getUint32(at + 4) & OFFSET_LOW) >>> 0);
}

/** Writes an entry. @param flags of its upper half */
export function setOffset(view: DataView, at: number, offset: number, flags: number): void {
	view.setUint32(at, (Math.floor(offset / 2 ** 32) | flags) >>> 0);
	view.setUint32(at + 4, offset % 2 ** 32);
}

export class Table {
	/** In the file. */
	readonly offset: number;
	readonly entries: number;
	readonly view: DataView;
	readonly #ram: GuestRam;

	/** @param bytes its content, or the beginning of it */
	constructor(offset: number, entries: number, bytes: Uint8Array) {
		this.offset = offset;
		this.entries = entries;
		const sizeBytes = Math.ceil(Math.max(1, entries * ENTRY_BYTES) / PAGE_BYTES) * PAGE_BYTES;
		this.#ram = GuestRam.map([{ gpa: 0, sizeBytes }]);
		const { buffer } = this.#ram.regions[0]!;
		new Uint8Array(buffer).set(bytes.subarray(0, entries * ENTRY_BYTES));
		this.view = new DataView(buffer);
	}

	/** The offset in an entry, 0 when there is none. */
	get(index: number): number {
		return offsetIn(this.view, index * ENTRY_BYTES);
	}

	/** What the entry leads to is used here only. */
	isCopied(index: number): boolean {
		return (this.view.getUint32(index * ENTRY_BYTES) & COPIED) !== 0;
	}

	set(index: number, offset: number, flags = 0): void {
		setOffset(this.view, index * ENTRY_BYTES, offset, flags);
	}

	/** Writes the blocks with entries from `first` to `last`. @throws RequestFailed */
	async write(file: ImageFile, first = 0, last = this.entries - 1): Promise<void> {
		const block = file.backend.blockBytes ?? 512;
		const from = Math.floor((first * ENTRY_BYTES) / block) * block;
		const to = Math.ceil(((last + 1) * ENTRY_BYTES) / block) * block;
		const { hva, buffer } = this.#ram.regions[0]!;
		const list = new Segments();
		list.add({ hva, bytes: new Uint8Array(buffer) }, from, to - from);
		await file.write(this.offset + from, list);
	}

	close(): void {
		this.#ram.close();
	}
}
