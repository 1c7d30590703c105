/*
 * The pages of RAM that differ from those of another snapshot, found by comparing them. What cannot differ is not read: a
 * machine that was restored has most pages as its snapshot has them (host/ram.ts#GuestRam.writtenPages).
 */
import { setImmediate as turn } from "node:timers/promises";
import { PAGE_BYTES, type PageSet } from "../base/page-set.ts";
import type { Layers } from "./layers.ts";
import { CHUNK_BYTES, type MemoryPart, type OnChunk } from "./memory-file.ts";

export interface Comparison {
	readonly base: Layers;
	/** Pages that may differ. */
	readonly suspects: PageSet;
	/** Gets those that do, as they come. */
	readonly changed: PageSet;
}

/** The pages of RAM that differ, in order. */
export async function* changedChunks(
	parts: readonly MemoryPart[],
	{ base, suspects, changed }: Comparison,
	onChunk: OnChunk,
): AsyncGenerator<MemoryPart> {
	const scratch = Buffer.alloc(CHUNK_BYTES);
	for (const part of parts) {
		for (let at = 0; at < part.bytes.length; at += CHUNK_BYTES) {
			const chunk = part.bytes.subarray(at, at + CHUNK_BYTES);
			const first = (part.offset + at) / PAGE_BYTES;
			for (const [start, end] of suspects.runs(first, first + chunk.length / PAGE_BYTES)) {
				const bytes = chunk.subarray((start - first) * PAGE_BYTES, (end - first) * PAGE_BYTES);
				const before = scratch.subarray(0, bytes.length);
				await base.read(before, start * PAGE_BYTES);
				for (const [from, to] of unequalPages(bytes, before)) {
					changed.add(start + from, start + to);
					yield { bytes: bytes.subarray(from * PAGE_BYTES, to * PAGE_BYTES), offset: (start + from) * PAGE_BYTES };
				}
			}
			onChunk(chunk.length);
			await turn();
		}
	}
}

function* unequalPages(bytes: Uint8Array, before: Buffer): Generator<[start: number, end: number]> {
	if (before.equals(bytes)) return;
	const pages = bytes.length / PAGE_BYTES;
	const differs = (page: number) =>
		page < pages &&
		before.compare(bytes, page * PAGE_BYTES, (page + 1) * PAGE_BYTES, page * PAGE_BYTES, (page + 1) * PAGE_BYTES) !== 0;
	for (let page = 0; page < pages; page++) {
		if (!differs(page)) continue;
		const start = page;
		while (differs(page)) page++;
		yield [start, page];
	}
}
