/*
 * The parts of L2 tables or refcount blocks that are in memory. A slice is a page of a table, or the whole table where
 * clusters are smaller. Changed slices stay in memory until `snapshot`, which copies them: so what is written is of one
 * moment, whatever changes meanwhile.
 *
 *     use -> a slice, read if need be      change, then dirty = true      snapshot -> copies -> write -> in the file
 */
import { Segments } from "../../base/segments.ts";
import { GuestRam } from "../../host/ram.ts";
import type { ImageFile } from "./image-file.ts";

const PAGE_BYTES = 4096;
/** 4 MiB of tables: with clusters of 64 KiB they lead to 32 GiB of data. */
const SLICES = 1024;

/** A part of a table. It is valid in `use` only: the memory may have another part afterwards. */
export interface Slice {
	readonly view: DataView;
	/** It differs from the file. */
	dirty: boolean;
}

interface Slot extends Slice {
	readonly number: number;
	/** Where it is in the file. */
	offset: number;
	/** Its read or write is under way. */
	busy: boolean;
}

export class SliceCache {
	readonly sliceBytes: number;
	readonly #file: ImageFile;
	readonly #ram: GuestRam;
	readonly #memory: Uint8Array;
	/** By offset in the file; the one that was used last is the last. */
	readonly #slots = new Map<number, Slot>();
	readonly #loading = new Map<number, Promise<void>>();
	readonly #free: number[] = Array.from({ length: SLICES }, (_, i) => i);
	readonly #makeRoom: () => Promise<void>;

	/** @param makeRoom writes changed slices, when all are */
	constructor(file: ImageFile, clusterBytes: number, makeRoom: () => Promise<void>) {
		this.#file = file;
		this.sliceBytes = Math.min(clusterBytes, PAGE_BYTES);
		/* The second half has the copies. */
		this.#ram = GuestRam.map([{ gpa: 0, sizeBytes: 2 * SLICES * PAGE_BYTES }]);
		this.#memory = new Uint8Array(this.#ram.regions[0]!.buffer);
		this.#makeRoom = makeRoom;
	}

	/**
	 * Calls `work` with a slice, at once when it is in memory. Nothing else happens between the look at a slice and what
	 * `work` does before its first `await`.
	 *
	 * @param offset in the file, a multiple of `sliceBytes`
	 * @throws RequestFailed
	 */
	async use<T>(offset: number, work: (slice: Slice) => T | Promise<T>): Promise<T> {
		let slot = this.#find(offset);
		for (; slot === undefined; slot = this.#find(offset)) await this.#load(offset);
		return await work(slot);
	}

	/** Forgets what is known of a range of the file, which has other content now. */
	drop(offset: number, bytes: number): void {
		for (let at = offset; at < offset + bytes; at += this.sliceBytes) {
			const slot = this.#slots.get(at);
			if (slot === undefined) continue;
			this.#slots.delete(at);
			this.#free.push(slot.number);
		}
	}

	/** Copies all changed slices, which are not dirty any more. */
	snapshot(): { readonly count: number; write(): Promise<void>; undo(): void } {
		const changed = [...this.#slots.values()].filter(({ dirty }) => dirty);
		for (const slot of changed) {
			const at = slot.number * PAGE_BYTES;
			this.#memory.copyWithin(at + SLICES * PAGE_BYTES, at, at + this.sliceBytes);
			slot.dirty = false;
			slot.busy = true;
		}
		const settle = (failed: boolean) => {
			for (const slot of changed) {
				slot.busy = false;
				slot.dirty ||= failed;
			}
		};
		return {
			count: changed.length,
			write: async () => {
				const writes = changed.map(({ number, offset }) => this.#file.write(offset, this.#list(SLICES + number)));
				/* All of them, because a slice that is being written must stay. */
				await Promise.allSettled(writes);
				await Promise.all(writes);
				settle(false);
			},
			undo: () => settle(true),
		};
	}

	close(): void {
		this.#ram.close();
	}

	#list(page: number): Segments {
		const { hva } = this.#ram.regions[0]!;
		const list = new Segments();
		list.add({ hva, bytes: this.#memory }, page * PAGE_BYTES, this.sliceBytes);
		return list;
	}

	#find(offset: number): Slot | undefined {
		const slot = this.#slots.get(offset);
		if (slot === undefined) return undefined;
		this.#slots.delete(offset);
		this.#slots.set(offset, slot);
		return slot;
	}

	#load(offset: number): Promise<void> {
		let loading = this.#loading.get(offset);
		if (loading === undefined) {
			loading = this.#read(offset).finally(() => this.#loading.delete(offset));
			this.#loading.set(offset, loading);
		}
		return loading;
	}

	async #read(offset: number): Promise<void> {
		let number = this.#take();
		while (number === undefined) {
			await this.#makeRoom();
			number = this.#take();
		}
		try {
			await this.#file.read(offset, this.#list(number));
		} catch (error) {
			this.#free.push(number);
			throw error;
		}
		const view = new DataView(this.#memory.buffer, number * PAGE_BYTES, this.sliceBytes);
		this.#slots.set(offset, { number, offset, view, dirty: false, busy: false });
	}

	/** A free page, or that of the slice that was not used for the longest time. */
	#take(): number | undefined {
		const free = this.#free.pop();
		if (free !== undefined) return free;
		for (const slot of this.#slots.values()) {
			if (slot.dirty || slot.busy) continue;
			this.#slots.delete(slot.offset);
			return slot.number;
		}
		return undefined;
	}
}
