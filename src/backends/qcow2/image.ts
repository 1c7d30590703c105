/*
 * An image that is open: its tables, and who may change what. Reading, writing and emptying of clusters are in files of their
 * own.
 */
import { Mutex } from "../../base/mutex.ts";
import { Segments } from "../../base/segments.ts";
import { GuestRam } from "../../host/ram.ts";
import { Buffers } from "./buffers.ts";
import { CORRUPT, type Qcow2Header, qcow2_header } from "./header.ts";
import type { ImageFile } from "./image-file.ts";
import { type Extent, Mapping } from "./mapping.ts";
import { Corrupt, Refcounts } from "./refcounts.ts";
import { Table } from "./table.ts";

const PAGE_BYTES = 4096;

/** The parts that an image is opened with. */
export interface ImageParts {
	readonly header: Qcow2Header;
	/** The first block of the file. */
	readonly headerBytes: Uint8Array;
	readonly l1: Uint8Array;
	readonly refcountTable: Uint8Array;
	readonly file: ImageFile;
	readonly backing: ImageFile | undefined;
}

export class Image {
	readonly header: Qcow2Header;
	readonly clusterBytes: number;
	/** Requests are multiples of this. */
	readonly blockBytes: number;
	readonly file: ImageFile;
	readonly backing: ImageFile | undefined;
	readonly mapping: Mapping;
	readonly refcounts: Refcounts;
	/** For clusters that are copied. Who has one may wait for one of `packed`, and not the other way round. */
	readonly buffers: Buffers;
	/** For compressed data. */
	readonly packed: Buffers;
	/** Writes in place. */
	readonly writes = new Set<Promise<unknown>>();
	/** Nothing is written any more. */
	isCorrupt = false;
	readonly #headerBlock: Table;
	/** Mapped at its first use. */
	#zeroes: GuestRam | undefined;
	readonly #writingBack = new Mutex();
	/** Clusters of the guest's disk that are getting another place. */
	readonly #moving = new Map<number, Promise<0>>();
	/** Ranges of the file that the tables in memory do not lead to any more. */
	#freed: { offset: number; bytes: number }[] = [];

	/** It owns the files. */
	constructor({ header, headerBytes, l1, refcountTable, file, backing }: ImageParts) {
		const { clusterBytes } = header;
		this.header = header;
		this.clusterBytes = clusterBytes;
		this.file = file;
		this.backing = backing;
		this.blockBytes = Math.max(512, file.backend.blockBytes ?? 512, backing?.backend.blockBytes ?? 512);
		this.#headerBlock = new Table(0, headerBytes.length / 8, headerBytes);
		const makeRoom = () => this.#writeBack();
		this.mapping = new Mapping(header, file, new Table(header.l1.offset, header.l1.entries, l1), makeRoom);
		const { offset, clusters } = header.refcountTable;
		this.refcounts = new Refcounts(new Table(offset, (clusters * clusterBytes) / 8, refcountTable), {
			...{ file, clusterBytes, bits: header.refcountBits, makeRoom },
			isMetadata: (at) => this.#isMetadata(at),
			tableMoved: (at, count) => this.#nameRefcountTable(at, count),
		});
		/* A compressed cluster may be a sector longer than two, and lies at any byte. */
		this.packed = new Buffers(2 * clusterBytes + 2 * PAGE_BYTES);
		this.buffers = new Buffers(clusterBytes);
	}

	/** The image says that it is corrupt, from version 3 on. */
	markCorrupt(): void {
		if (this.isCorrupt) return;
		this.isCorrupt = true;
		if (this.header.version < 3) return;
		const { view } = this.#headerBlock;
		const at = qcow2_header.incompatible_features + 4;
		view.setUint32(at, view.getUint32(at) | CORRUPT);
		void this.#headerBlock.write(this.file).catch(() => undefined);
	}

	/** Closes the files, too. */
	async close(): Promise<void> {
		await this.file.backend.close();
		await this.backing?.backend.close();
		this.#zeroes?.close();
		for (const part of [this.mapping, this.refcounts, this.buffers, this.packed, this.#headerBlock]) part.close();
	}

	/** So many zeroes, at most a cluster. */
	zeroes(bytes: number): Segments {
		const sizeBytes = Math.max(PAGE_BYTES, this.clusterBytes);
		this.#zeroes ??= GuestRam.map([{ gpa: 0, sizeBytes }]);
		const { hva, buffer } = this.#zeroes.regions[0]!;
		const list = new Segments();
		list.add({ hva, bytes: new Uint8Array(buffer) }, 0, bytes);
		return list;
	}

	/** Reads as zeroes, and so does what is below. */
	isEmpty({ kind }: Extent, cluster: number): boolean {
		const { backing } = this;
		if (kind !== "backing") return kind === "zero";
		return backing === undefined || cluster * this.clusterBytes >= backing.endBytes;
	}

	/** After the next flush, because the tables in the file lead there until then. */
	freeLater({ kind, offset, bytes }: Extent, clusters: number): void {
		if (kind === "compressed") this.#freed.push({ offset, bytes });
		else if (offset !== 0) this.#freed.push({ offset, bytes: clusters * this.clusterBytes });
	}

	/** Gives a cluster an L2 table of its own. */
	async makeTable(cluster: number): Promise<void> {
		const old = await this.mapping.makeTable(cluster, this.refcounts);
		if (old !== undefined) this.#freed.push({ offset: old, bytes: this.clusterBytes });
	}

	/** The number of a cluster, and the bytes before `offset` in it. */
	place(offset: number): [cluster: number, skip: number] {
		const skip = offset % this.clusterBytes;
		return [(offset - skip) / this.clusterBytes, skip];
	}

	/** How many clusters so many bytes are, the last of them in part. */
	clustersOf(bytes: number): number {
		return Math.ceil(bytes / this.clusterBytes);
	}

	/** What has to end before these clusters may be written; 0 bytes of the request are done then. */
	movingAt(cluster: number, clusters: number): Promise<0> | undefined {
		if (this.#moving.size === 0) return undefined;
		for (let i = 0; i < clusters; i++) {
			const moving = this.#moving.get(cluster + i);
			if (moving !== undefined) return moving;
		}
		return undefined;
	}

	/** Does `work`, which changes what the tables say of these clusters. Meanwhile nobody else writes to them. */
	async move<T>(cluster: number, clusters: number, work: () => Promise<T>): Promise<T> {
		const result = work();
		const ended = result.then(
			(): 0 => 0,
			(): 0 => 0,
		);
		for (let i = 0; i < clusters; i++) this.#moving.set(cluster + i, ended);
		try {
			return await result;
		} finally {
			for (let i = 0; i < clusters; i++) this.#moving.delete(cluster + i);
		}
	}

	/** Data is in the file, and not where tables are. @throws Corrupt */
	checkPlace(offset: number): void {
		if (offset >= this.file.endBytes) throw new Corrupt(`a cluster of data is at ${offset}, behind the end`);
		if (this.#isMetadata(offset)) throw new Corrupt(`a cluster of data is at ${offset}, where a table is`);
	}

	/** Makes all that is answered stable. @throws RequestFailed; Corrupt */
	async flush(): Promise<void> {
		const freed = this.#freed.splice(0);
		const writes = [...this.writes];
		try {
			await this.#writeBack();
			await this.file.flush();
		} catch (error) {
			this.#freed.push(...freed);
			throw error;
		}
		if (freed.length === 0) return;
		/* A write that began before a cluster was freed must not meet its next owner. */
		await Promise.allSettled(writes);
		for (const { offset, bytes } of freed) await this.refcounts.release(offset, bytes);
	}

	/** Writes changed tables, refcounts first. */
	#writeBack(): Promise<void> {
		return this.#writingBack.run(async () => {
			const tables = this.mapping.cache.snapshot();
			const counts = this.refcounts.cache.snapshot();
			try {
				await counts.write();
				if (tables.count > 0) {
					await this.file.flush();
					await tables.write();
				}
			} catch (error) {
				tables.undo();
				counts.undo();
				throw error;
			}
		});
	}

	#isMetadata(offset: number): boolean {
		return offset < this.clusterBytes || this.mapping.isMetadata(offset) || this.refcounts.isMetadata(offset);
	}

	async #nameRefcountTable(offset: number, clusters: number): Promise<void> {
		this.#headerBlock.set(qcow2_header.refcount_table_offset / 8, offset);
		this.#headerBlock.view.setUint32(qcow2_header.refcount_table_clusters, clusters);
		await this.#headerBlock.write(this.file);
	}
}
