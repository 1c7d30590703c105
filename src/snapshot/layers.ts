/*
 * The memory files of a snapshot and of those that it is based on. The lowest has all of RAM. Each one above has the pages
 * that differ from what is below, and the file "pages" says which:
 *
 *     top    ....|##|..........|#|..    a page is that of the highest layer that has it
 *            ..|#####|.........|##|.
 *     lowest #######################    the pages that it has as holes are zeroes
 */
import { createHash } from "node:crypto";
import type { BigIntStats } from "node:fs";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { SnapshotError } from "../base/errors.ts";
import { PAGE_BYTES, PageSet } from "../base/page-set.ts";
import type { RamPart } from "../host/ram.ts";
import { type Manifest, readBase, reading, type Seal } from "./manifest.ts";
import { CHUNK_BYTES, dataOf, type MemoryPart, type OnChunk, sumMemory } from "./memory-file.ts";

interface Layer {
	readonly id: string;
	readonly memory: FileHandle;
	/** The pages that it has. The lowest has all; looking for those that are no holes takes long on some file systems. */
	readonly pages: () => PageSet;
}

/** What RAM is made of. Its owner closes it. */
export class Layers {
	/** Bytes of a file with all of RAM. */
	readonly bytes: number;
	/** From the lowest to the top. */
	readonly #layers: readonly Layer[];

	/**
	 * Opens the memory of a snapshot and of those below, and checks it by its checksums.
	 *
	 * @throws SnapshotError ERR_SNAPSHOT_MISSING, ERR_SNAPSHOT_DAMAGED, ERR_SNAPSHOT_BASE
	 */
	static async open(path: string, manifest: Manifest): Promise<Layers> {
		const layers: Layer[] = [];
		try {
			for (let at = { path, manifest }; ; ) {
				layers.unshift(await openLayer(at.path, at.manifest));
				const below = await readBase(at);
				if (below === undefined) return new Layers(manifest.memory.bytes, layers);
				at = below;
			}
		} catch (error) {
			for (const { memory } of layers) await memory.close();
			throw error;
		}
	}

	private constructor(bytes: number, layers: readonly Layer[]) {
		this.bytes = bytes;
		this.#layers = layers;
	}

	/** The descriptor of the lowest file, until `close`. */
	get lowestFd(): number {
		return this.#layers[0]!.memory.fd;
	}

	/** Where the other files lie over the lowest one. */
	get overlay(): RamPart[] {
		const parts: RamPart[] = [];
		if (this.#layers.length === 1) return parts;
		for (const [start, end] of this.#pagesFrom(1).runs()) {
			for (const [layer, from, to] of this.#split(start, end))
				parts.push({ fd: layer.memory.fd, offset: from * PAGE_BYTES, bytes: (to - from) * PAGE_BYTES });
		}
		return parts;
	}

	/**
	 * The pages that may differ between this memory and another one; undefined stands for zeroes. Layers that both have are
	 * the same in both.
	 */
	differences(other: Layers | undefined): PageSet {
		const theirs = other === undefined ? [] : other.#layers;
		const ours = this.#layers;
		const shared = ours.findLastIndex(({ id }) => theirs.some((layer) => layer.id === id));
		const sharedTheirs = theirs.findIndex(({ id }) => id === ours[shared]?.id);
		const pages = this.#pagesFrom(shared + 1);
		if (other !== undefined) pages.addAll(other.#pagesFrom(sharedTheirs + 1));
		return pages;
	}

	/** The pages that take room in one of the files. All others are zeroes. */
	get usedPages(): PageSet {
		return this.#pagesFrom(0);
	}

	/** Reads whole pages. */
	async read(buffer: Buffer, offset: number): Promise<void> {
		const first = offset / PAGE_BYTES;
		for (const [{ memory }, from, to] of this.#split(first, first + buffer.length / PAGE_BYTES)) {
			const at = (from - first) * PAGE_BYTES;
			const end = (to - first) * PAGE_BYTES;
			const { bytesRead } = await memory.read(buffer, at, end - at, from * PAGE_BYTES);
			if (bytesRead < end - at) throw new Error("a memory file of a snapshot was shortened");
		}
	}

	/** All of it but for pages of zeroes, in order. */
	async *chunks(onChunk: OnChunk): AsyncGenerator<MemoryPart> {
		const buffer = Buffer.alloc(CHUNK_BYTES);
		const pages = this.usedPages;
		for (let offset = 0; offset < this.bytes; offset += CHUNK_BYTES) {
			const end = Math.min(offset + CHUNK_BYTES, this.bytes);
			for (const [from, to] of pages.runs(offset / PAGE_BYTES, end / PAGE_BYTES)) {
				const bytes = buffer.subarray(0, (to - from) * PAGE_BYTES);
				await this.read(bytes, from * PAGE_BYTES);
				yield { bytes, offset: from * PAGE_BYTES };
			}
			onChunk(end - offset);
		}
	}

	async close(): Promise<void> {
		for (const { memory } of this.#layers) await memory.close();
	}

	/** The pages that layer `index` and those above have. */
	#pagesFrom(index: number): PageSet {
		const pages = new PageSet(this.bytes / PAGE_BYTES);
		for (const layer of this.#layers.slice(index)) pages.addAll(layer.pages());
		return pages;
	}

	/** Pages as runs, each with the layer that has it. */
	*#split(start: number, end: number): Generator<[layer: Layer, start: number, end: number]> {
		const layerOf = (page: number) => this.#layers.findLast(({ pages }, i) => i === 0 || pages().has(page))!;
		for (let from = start; from < end; ) {
			const layer = layerOf(from);
			let to = from + 1;
			while (to < end && layerOf(to) === layer) to++;
			yield [layer, from, to];
			from = to;
		}
	}
}

async function openLayer(path: string, manifest: Manifest): Promise<Layer> {
	const { id, memory: about, base } = manifest;
	const memory = await reading(path, () => open(join(path, "memory"), "r"));
	try {
		return await reading(path, async () => {
			await check(path, memory, about);
			if (base === undefined) return { id, memory, pages: () => usedPages(memory, about.bytes) };
			const pages = await readPages(path, about.bytes, base);
			return { id, memory, pages: () => pages };
		});
	} catch (error) {
		await memory.close();
		throw error;
	}
}

/** A file with its seal is as it was written; another one, such as a copy, is read as a whole. */
async function check(path: string, memory: FileHandle, { bytes, sha256, seal }: Manifest["memory"]): Promise<void> {
	const found = sealFrom(await memory.stat({ bigint: true }));
	if (found.size !== bytes) throw damaged(path, "memory");
	if (Object.entries(seal).every(([field, value]) => found[field as keyof Seal] === value)) return;
	if ((await sumMemory(memory, bytes)).sha256 !== sha256) throw damaged(path, "memory");
}

function usedPages({ fd }: FileHandle, bytes: number): PageSet {
	const pages = new PageSet(bytes / PAGE_BYTES);
	for (const [start, end] of dataOf(fd)) pages.add(start / PAGE_BYTES, end / PAGE_BYTES);
	return pages;
}

async function readPages(path: string, bytes: number, base: NonNullable<Manifest["base"]>): Promise<PageSet> {
	const pages = new PageSet(bytes / PAGE_BYTES);
	const bits = await readFile(join(path, "pages"));
	if (bits.length !== pages.bits.length || sha256(bits) !== base.pagesSha256) throw damaged(path, "pages");
	pages.bits.set(bits);
	return pages;
}

/** What tells whether a file was written to since. */
export function sealFrom({ dev, ino, size, ctimeNs }: BigIntStats): Seal {
	return { device: `${dev}`, inode: `${ino}`, size: Number(size), changedNs: `${ctimeNs}` };
}

export function sha256(data: string | Uint8Array): string {
	return createHash("sha256").update(data).digest("hex");
}

export function damaged(path: string, file: string): SnapshotError {
	const message = `Cannot use the snapshot ${path}: ${file} is not what was written`;
	return new SnapshotError("ERR_SNAPSHOT_DAMAGED", message, { hint: "Use another snapshot" });
}
