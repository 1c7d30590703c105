/*
 * How often each cluster of an image is used: 0 is free. The refcount table leads to refcount blocks, which have the counts.
 *
 *     cluster c -> table[c / E] -> a block of E counts -> count[c % E]        E = bits in a cluster / bits of a count
 *
 * Where the table has no block, all clusters are free. A new block is the first cluster that it counts itself. A larger table
 * is put behind all clusters that the old one can count, for the same reason.
 */
import { Mutex } from "../../base/mutex.ts";
import { Segments } from "../../base/segments.ts";
import { GuestRam } from "../../host/ram.ts";
import type { ImageFile } from "./image-file.ts";
import { type Slice, SliceCache } from "./slice-cache.ts";
import { Table } from "./table.ts";

/** After as many slices other events have their turn. */
const YIELD_SLICES = 64;
/** As QEMU. */
const MAX_TABLE_BYTES = 8 * 1024 * 1024;

/** Why an image cannot be changed any more. */
export class Corrupt extends Error {}

/** Clusters in a row that nobody uses yet. */
export interface Allocation {
	readonly offset: number;
	readonly clusters: number;
	/** Nothing was ever written there: it reads as zeroes. */
	readonly fresh: boolean;
}

/** What the allocator depends on. */
export interface RefcountsOptions {
	readonly file: ImageFile;
	readonly clusterBytes: number;
	/** Of a count: a power of two up to 64. */
	readonly bits: number;
	/** Writes changed slices of all caches. */
	readonly makeRoom: () => Promise<void>;
	/** Whether a cluster has metadata, so that it cannot be free. */
	readonly isMetadata: (offset: number) => boolean;
	/** Makes the header name a new table, before the old one is free. */
	readonly tableMoved: (offset: number, clusters: number) => Promise<void>;
}

export class Refcounts {
	readonly cache: SliceCache;
	readonly #options: RefcountsOptions;
	readonly #lock = new Mutex();
	#table: Table;
	/** Offsets of the blocks. */
	readonly #blocks = new Set<number>();
	/** Counts in a block, and in a slice of one. */
	readonly #perBlock: number;
	readonly #perSlice: number;
	/** No cluster before this one is free. */
	#nextFree = 0;
	/** Behind it nothing was ever written. */
	#freshFrom: number;

	constructor(table: Table, options: RefcountsOptions) {
		this.#table = table;
		this.#options = options;
		const { file, clusterBytes, bits, makeRoom } = options;
		this.cache = new SliceCache(file, clusterBytes, makeRoom);
		this.#perBlock = (clusterBytes * 8) / bits;
		this.#perSlice = (this.cache.sliceBytes * 8) / bits;
		this.#freshFrom = file.endBytes;
		for (let i = 0; i < table.entries; i++) if (table.get(i) !== 0) this.#blocks.add(table.get(i));
	}

	/** The table and its blocks are at these offsets. */
	isMetadata(offset: number): boolean {
		const { offset: start, entries } = this.#table;
		if (offset >= start && offset < start + entries * 8) return true;
		return this.#blocks.has(offset);
	}

	/**
	 * Takes up to `wanted` free clusters in a row.
	 *
	 * @throws RequestFailed; Corrupt when what is free is in use
	 */
	allocate(wanted: number): Promise<Allocation> {
		return this.#lock.run(async () => {
			const { clusterBytes, isMetadata } = this.#options;
			const first = await this.#findFree(this.#nextFree);
			let clusters = 0;
			do {
				const offset = (first + clusters) * clusterBytes;
				if (isMetadata(offset)) throw new Corrupt(`cluster ${first + clusters} is in use, and its refcount is 0`);
				await this.#set(first + clusters, 1);
				clusters++;
			} while (clusters < wanted && (await this.#countWhereKnown(first + clusters)) === 0);
			this.#nextFree = first + clusters;
			const offset = first * clusterBytes;
			const fresh = offset >= this.#freshFrom;
			this.#freshFrom = Math.max(this.#freshFrom, offset + clusters * clusterBytes);
			return { offset, clusters, fresh };
		});
	}

	/** One user less of the clusters that a range touches. @throws RequestFailed; Corrupt when there was none */
	release(offset: number, bytes: number): Promise<void> {
		return this.#lock.run(async () => {
			const { file, clusterBytes } = this.#options;
			const last = Math.floor((offset + bytes - 1) / clusterBytes);
			if (last * clusterBytes >= Math.max(file.endBytes, this.#freshFrom)) {
				throw new Corrupt(`cluster ${last} is freed, and is behind the end`);
			}
			for (let cluster = Math.floor(offset / clusterBytes); cluster <= last; cluster++) {
				const count = await this.#count(cluster);
				if (count === 0) throw new Corrupt(`cluster ${cluster} is freed, and its refcount is 0`);
				/* Before anybody can have the cluster. */
				if (count === 1) await file.discard(cluster * clusterBytes, clusterBytes);
				await this.#set(cluster, count - 1);
				if (count === 1) this.#nextFree = Math.min(this.#nextFree, cluster);
			}
		});
	}

	close(): void {
		this.cache.close();
		this.#table.close();
	}

	/** The first free cluster from `cluster` on. There is one behind the end of the file, or the counts are wrong. */
	async #findFree(cluster: number): Promise<number> {
		const { file, clusterBytes } = this.#options;
		let at = cluster;
		for (let reads = 1; (await this.#count(at)) !== 0; reads++) {
			/* To the end of the slice, without a wait for each cluster. */
			at = await this.#use(at, (slice) => {
				let next = at + 1;
				while (next % this.#perSlice !== 0 && this.#read(slice, next) !== 0) next++;
				return next;
			});
			if (at * clusterBytes > Math.max(file.endBytes, this.#freshFrom) + clusterBytes)
				throw new Corrupt("clusters behind its end are in use");
			if (reads % YIELD_SLICES === 0) await new Promise(setImmediate);
		}
		return at;
	}

	/** The count of a cluster, which gets a block if it has none. */
	async #count(cluster: number): Promise<number> {
		const index = Math.floor(cluster / this.#perBlock);
		if (index >= this.#table.entries) await this.#grow(index);
		if (this.#table.get(index) === 0) await this.#addBlock(index);
		return await this.#use(cluster, (slice) => this.#read(slice, cluster));
	}

	/** As `#count`; undefined where there is no block yet. */
	async #countWhereKnown(cluster: number): Promise<number | undefined> {
		const index = Math.floor(cluster / this.#perBlock);
		if (index >= this.#table.entries || this.#table.get(index) === 0) return undefined;
		return await this.#use(cluster, (slice) => this.#read(slice, cluster));
	}

	/** Calls `work` with the slice that has the count of a cluster. */
	async #use<T>(cluster: number, work: (slice: Slice) => T): Promise<T> {
		const { clusterBytes, bits } = this.#options;
		const block = this.#table.get(Math.floor(cluster / this.#perBlock));
		if (block % clusterBytes !== 0) throw new Corrupt(`a refcount block is at ${block}, which is no cluster`);
		const byte = Math.floor(((cluster % this.#perBlock) * bits) / 8);
		return await this.cache.use(block + byte - (byte % this.cache.sliceBytes), work);
	}

	/** Where a count is in its slice: its byte, and its bits when it is smaller. The first counts are the lowest bits. */
	#place(cluster: number): { at: number; shift: number } {
		const { bits } = this.#options;
		const bit = (cluster % this.#perBlock) * bits;
		return { at: Math.floor(bit / 8) % this.cache.sliceBytes, shift: bit % 8 };
	}

	#read({ view }: Slice, cluster: number): number {
		const { at, shift } = this.#place(cluster);
		const { bits } = this.#options;
		if (bits < 8) return (view.getUint8(at) >> shift) & ((1 << bits) - 1);
		if (bits === 8) return view.getUint8(at);
		if (bits === 16) return view.getUint16(at);
		return bits === 32 ? view.getUint32(at) : view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
	}

	async #set(cluster: number, count: number): Promise<void> {
		await this.#use(cluster, (slice) => {
			this.#write(slice, cluster, count);
			slice.dirty = true;
		});
	}

	#write({ view }: Slice, cluster: number, count: number): void {
		const { at, shift } = this.#place(cluster);
		const { bits } = this.#options;
		if (bits < 8) {
			const others = view.getUint8(at) & ~(((1 << bits) - 1) << shift);
			view.setUint8(at, others | (count << shift));
		} else if (bits === 8) view.setUint8(at, count);
		else if (bits === 16) view.setUint16(at, count);
		else if (bits === 32) view.setUint32(at, count);
		else {
			view.setUint32(at, Math.floor(count / 2 ** 32));
			view.setUint32(at + 4, count % 2 ** 32);
		}
	}

	/** Makes the block that counts its own cluster first. It is in the file before the table names it. */
	async #addBlock(index: number): Promise<void> {
		const { file, clusterBytes, isMetadata, makeRoom } = this.#options;
		const offset = index * this.#perBlock * clusterBytes;
		if (isMetadata(offset)) throw new Corrupt(`cluster ${offset / clusterBytes} is in use, and nothing counts it`);
		await this.#writeZeroes(offset, 1);
		this.cache.drop(offset, clusterBytes);
		this.#freshFrom = Math.max(this.#freshFrom, offset + clusterBytes);
		this.#table.set(index, offset);
		try {
			await this.#set(index * this.#perBlock, 1);
			/* With its own count, so that a crash leaves no block that says that it is free. */
			await makeRoom();
			await file.flush();
			await this.#table.write(file, index, index);
			this.#blocks.add(offset);
		} catch (error) {
			this.#table.set(index, 0);
			this.cache.drop(offset, clusterBytes);
			throw error;
		}
	}

	/** Makes a larger table, so that it has an entry `index`, with the blocks that count it. */
	async #grow(index: number): Promise<void> {
		const { file, clusterBytes, makeRoom, tableMoved } = this.#options;
		const old = this.#table;
		const perCluster = clusterBytes / 8;
		const clusters = Math.ceil((Math.max(index + 1, old.entries) * 1.5 + 1) / perCluster);
		if (clusters * clusterBytes > MAX_TABLE_BYTES) throw new Corrupt("its refcount table has become too large");
		const first = old.entries * this.#perBlock;
		let blocks = 1;
		while (blocks * this.#perBlock < blocks + clusters) blocks++;
		const [start, bytes] = [first * clusterBytes, (blocks + clusters) * clusterBytes];
		const offset = start + blocks * clusterBytes;
		const table = new Table(offset, clusters * perCluster, new Uint8Array(old.view.buffer));
		await this.#writeZeroes(start, blocks);
		this.cache.drop(start, bytes);
		this.#freshFrom = Math.max(this.#freshFrom, start + bytes);
		for (let i = 0; i < blocks; i++) table.set(old.entries + i, start + i * clusterBytes);
		this.#table = table;
		try {
			for (let i = 0; i < blocks + clusters; i++) await this.#set(first + i, 1);
			await makeRoom();
			await table.write(file);
			await file.flush();
			await tableMoved(offset, clusters);
			await file.flush();
		} catch (error) {
			this.#table = old;
			this.cache.drop(start, bytes);
			table.close();
			throw error;
		}
		for (let i = 0; i < blocks; i++) this.#blocks.add(start + i * clusterBytes);
		old.close();
		const oldFirst = old.offset / clusterBytes;
		for (let i = 0; i < (old.entries * 8) / clusterBytes; i++) {
			await this.#set(oldFirst + i, Math.max(0, (await this.#count(oldFirst + i)) - 1));
		}
		this.#nextFree = Math.min(this.#nextFree, oldFirst);
	}

	async #writeZeroes(offset: number, clusters: number): Promise<void> {
		const { file, clusterBytes } = this.#options;
		const sizeBytes = Math.ceil((clusters * clusterBytes) / 4096) * 4096;
		const ram = GuestRam.map([{ gpa: 0, sizeBytes }]);
		try {
			const { hva, buffer } = ram.regions[0]!;
			const list = new Segments();
			list.add({ hva, bytes: new Uint8Array(buffer) }, 0, clusters * clusterBytes);
			await file.write(offset, list);
		} finally {
			ram.close();
		}
	}
}
