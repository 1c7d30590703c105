/*
 * Where the clusters of the guest's disk are: the L1 table, L2 tables and what their entries mean.
 *
 *     L2 entry, 64 bits
 *     63      COPIED: this entry is the cluster's only user, so it may be written in place
 *     62      compressed: the rest is an offset in bytes, and a number of sectors of 512 bytes
 *     55..9   offset of the cluster in the file; 0 when there is none
 *     0       the cluster reads as zeroes, whether it has an offset or not (version 3)
 */
import { Mutex } from "../../base/mutex.ts";
import { Segments } from "../../base/segments.ts";
import { GuestRam } from "../../host/ram.ts";
import type { Qcow2Header } from "./header.ts";
import type { ImageFile } from "./image-file.ts";
import { Corrupt, type Refcounts } from "./refcounts.ts";
import { SliceCache } from "./slice-cache.ts";
import { COPIED, offsetIn, setOffset, type Table } from "./table.ts";

const ENTRY_BYTES = 8;
const COMPRESSED = 0x4000_0000;
const ZERO = 1;
const SECTOR_BYTES = 512;

/** What the guest finds at a cluster: nothing of this image, zeroes, bytes of the file, or packed bytes of it. */
export type Kind = "backing" | "zero" | "data" | "compressed";

/** Clusters of one kind, in a row in the guest's disk and in the file. */
export interface Extent {
	readonly kind: Kind;
	readonly clusters: number;
	/** In the file; 0 where there is no cluster. Of compressed bytes: their first. */
	readonly offset: number;
	/** Of compressed data. */
	readonly bytes: number;
	/** It may be written in place. */
	readonly copied: boolean;
}

export class Mapping {
	readonly cache: SliceCache;
	readonly #header: Qcow2Header;
	readonly #file: ImageFile;
	readonly #l1: Table;
	/** Of an L2 table, and of a slice of one. */
	readonly #perTable: number;
	readonly #perSlice: number;
	readonly #tables = new Mutex();
	readonly #makeRoom: () => Promise<void>;
	/** Of all L2 tables; made at its first use. */
	#tableOffsets: Set<number> | undefined;

	constructor(header: Qcow2Header, file: ImageFile, l1: Table, makeRoom: () => Promise<void>) {
		this.#header = header;
		this.#file = file;
		this.#l1 = l1;
		this.#makeRoom = makeRoom;
		this.cache = new SliceCache(file, header.clusterBytes, makeRoom);
		this.#perTable = header.clusterBytes / ENTRY_BYTES;
		this.#perSlice = this.cache.sliceBytes / ENTRY_BYTES;
	}

	/** The L1 table and the L2 tables are at these offsets. */
	isMetadata(offset: number): boolean {
		const { offset: start, entries } = this.#l1;
		return (offset >= start && offset < start + entries * ENTRY_BYTES) || this.#isTable(offset);
	}

	/**
	 * Calls `act` with what the guest has at `cluster`, and how many clusters up to `most` go on like it, no further than the
	 * slice. Nothing changes between the look at the table and what `act` does before its first `await`.
	 *
	 * @throws RequestFailed; Corrupt
	 */
	async find<T>(cluster: number, most: number, act: (extent: Extent) => T | Promise<T>): Promise<T> {
		const left = Math.min(most, this.#perSlice - (cluster % this.#perSlice));
		const table = this.#table(cluster);
		if (table === 0) return await act({ kind: "backing", clusters: left, offset: 0, bytes: 0, copied: false });
		return await this.cache.use(this.#sliceAt(table, cluster), ({ view }) => act(this.#extent(view, cluster, left)));
	}

	/**
	 * Gives clusters new places in the file, one after the other from `offset`. They have an L2 table (`makeTable`), and are
	 * in one slice.
	 *
	 * @throws RequestFailed
	 */
	async setData(cluster: number, clusters: number, offset: number): Promise<void> {
		await this.#change(cluster, clusters, (view, at, i) =>
			setOffset(view, at, offset + i * this.#header.clusterBytes, COPIED),
		);
	}

	/** Makes clusters read as zeroes, or as the backing file when not `zero`. `offset` is kept where there is one. */
	async setEmpty(
		cluster: number,
		clusters: number,
		{ zero, offset }: { zero: boolean; offset: number },
	): Promise<void> {
		await this.#change(cluster, clusters, (view, at, i) => {
			const place = offset === 0 ? 0 : offset + i * this.#header.clusterBytes;
			setOffset(view, at, place + (zero ? ZERO : 0), offset === 0 ? 0 : COPIED);
		});
	}

	/** Whether there is an L2 table for a cluster. */
	hasTable(cluster: number): boolean {
		return this.#table(cluster) !== 0;
	}

	/**
	 * Makes an L2 table for a cluster that only we use. It is in the file before the L1 table names it.
	 *
	 * @returns the offset of the table that it replaces, which a snapshot in the image goes on using
	 * @throws RequestFailed; Corrupt
	 */
	makeTable(cluster: number, refcounts: Refcounts): Promise<number | undefined> {
		const index = Math.floor(cluster / this.#perTable);
		return this.#tables.run(async () => {
			const old = this.#table(cluster);
			if (old !== 0 && this.#l1.isCopied(index)) return undefined;
			const { clusterBytes } = this.#header;
			const { offset } = await refcounts.allocate(1);
			const ram = GuestRam.map([{ gpa: 0, sizeBytes: Math.max(4096, clusterBytes) }]);
			try {
				const { hva, buffer } = ram.regions[0]!;
				const list = new Segments();
				list.add({ hva, bytes: new Uint8Array(buffer) }, 0, clusterBytes);
				if (old !== 0) await this.#file.read(old, list);
				await this.#file.write(offset, list);
			} finally {
				ram.close();
			}
			this.cache.drop(offset, clusterBytes);
			/* With the table's refcount. */
			await this.#makeRoom();
			await this.#file.flush();
			this.#l1.set(index, offset, COPIED);
			this.#tableOffsets?.add(offset);
			await this.#l1.write(this.#file, index, index);
			return old === 0 ? undefined : old;
		});
	}

	close(): void {
		this.cache.close();
		this.#l1.close();
	}

	#isTable(offset: number): boolean {
		if (this.#tableOffsets === undefined) {
			this.#tableOffsets = new Set();
			for (let i = 0; i < this.#l1.entries; i++) if (this.#l1.get(i) !== 0) this.#tableOffsets.add(this.#l1.get(i));
		}
		return this.#tableOffsets.has(offset);
	}

	/** The offset of a cluster's L2 table, 0 when it has none. @throws Corrupt */
	#table(cluster: number): number {
		const offset = this.#l1.get(Math.floor(cluster / this.#perTable));
		if (offset % this.#header.clusterBytes !== 0) throw new Corrupt(`an L2 table is at ${offset}, which is no cluster`);
		return offset;
	}

	/** Where the slice with a cluster's entry is in the file. */
	#sliceAt(table: number, cluster: number): number {
		const index = cluster % this.#perTable;
		return table + (index - (index % this.#perSlice)) * ENTRY_BYTES;
	}

	#extent(view: DataView, cluster: number, most: number): Extent {
		const first = this.#entry(view, cluster);
		if (first.kind === "compressed") return first;
		let clusters = 1;
		for (; clusters < most; clusters++) {
			const next = this.#entry(view, cluster + clusters);
			const expected = first.offset === 0 ? 0 : first.offset + clusters * this.#header.clusterBytes;
			if (next.kind !== first.kind || next.copied !== first.copied || next.offset !== expected) break;
		}
		return { ...first, clusters };
	}

	async #change(
		cluster: number,
		clusters: number,
		change: (view: DataView, at: number, i: number) => void,
	): Promise<void> {
		await this.cache.use(this.#sliceAt(this.#table(cluster), cluster), (slice) => {
			for (let i = 0; i < clusters; i++) change(slice.view, ((cluster + i) % this.#perSlice) * ENTRY_BYTES, i);
			slice.dirty = true;
		});
	}

	/** What an entry means. @throws Corrupt */
	#entry(view: DataView, cluster: number): Extent {
		const at = (cluster % this.#perSlice) * ENTRY_BYTES;
		const high = view.getUint32(at);
		const low = view.getUint32(at + 4);
		if ((high & COMPRESSED) !== 0) return this.#compressed(high, low);
		const offset = offsetIn(view, at);
		if (offset % this.#header.clusterBytes !== 0) {
			throw new Corrupt(`cluster ${cluster} is at ${offset} in the file, which is no cluster`);
		}
		const zero = (low & ZERO) !== 0;
		if (zero && this.#header.version < 3) throw new Corrupt(`cluster ${cluster} has a flag of version 3`);
		const kind = zero ? "zero" : offset === 0 ? "backing" : "data";
		return { kind, clusters: 1, offset, bytes: 0, copied: (high & COPIED) !== 0 };
	}

	/** Bits 0 to x are the offset, those above the sectors besides the first one: x = 62 - (cluster_bits - 8). */
	#compressed(high: number, low: number): Extent {
		const bits = 62 - (this.#header.clusterBits - 8) - 32;
		const upper = high & ~(COPIED | COMPRESSED);
		const offset = (upper & (2 ** bits - 1)) * 2 ** 32 + low;
		const sectors = (upper >>> bits) + 1;
		const bytes = sectors * SECTOR_BYTES - (offset % SECTOR_BYTES);
		return { kind: "compressed", clusters: 1, offset, bytes, copied: false };
	}
}
