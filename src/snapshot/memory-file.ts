/*
 * A guest's RAM as a sparse file: each byte is where the mapping has it (host/ram.ts), and pages of zeroes are holes. So a
 * file can be mapped as it is. Its checksum is over the pages that are not zero, each after its number.
 */
import { createHash, type Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { setImmediate as turn } from "node:timers/promises";
import { ErrnoError } from "../base/errno-error.ts";
import { PAGE_BYTES } from "../base/page-set.ts";
import { nextData } from "../host/libc.ts";

/** As much is looked at between two turns of the event loop. */
export const CHUNK_BYTES = 1 << 20;
const ZEROES = Buffer.alloc(CHUNK_BYTES);

/** A part of RAM, and where it is in the file. Both numbers are multiples of 4096. */
export interface MemoryPart {
	readonly bytes: Uint8Array;
	readonly offset: number;
}

/** What a memory file has in it. */
export interface MemorySum {
	/** SHA-256 of the pages that are not zero. */
	readonly sha256: string;
	/** Bytes in those pages. */
	readonly usedBytes: number;
}

/** Called with the bytes of memory that were looked at since the last call. */
export type OnChunk = (bytes: number) => void;

/** Writes parts of RAM, which come in order and have at most CHUNK_BYTES. */
export async function writeMemory(
	file: FileHandle,
	sizeBytes: number,
	parts: AsyncIterable<MemoryPart>,
): Promise<MemorySum> {
	const sum = new PageSum();
	await file.truncate(sizeBytes);
	for await (const { bytes, offset } of parts) {
		const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
		for (const [start, end] of sum.add(chunk, offset)) await writeAll(file, chunk.subarray(start, end), offset + start);
	}
	return sum.result();
}

/** All of RAM to which nobody writes meanwhile. */
export async function* chunksOf(parts: readonly MemoryPart[], onChunk: OnChunk): AsyncGenerator<MemoryPart> {
	for (const { bytes, offset } of parts) {
		for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
			const chunk = bytes.subarray(at, at + CHUNK_BYTES);
			yield { bytes: chunk, offset: offset + at };
			onChunk(chunk.length);
			await turn();
		}
	}
}

/** Reads a whole memory file for its checksum. */
export async function sumMemory(file: FileHandle, sizeBytes: number): Promise<MemorySum> {
	const sum = new PageSum();
	const buffer = Buffer.alloc(CHUNK_BYTES);
	for (const [start, end] of dataOf(file.fd)) {
		for (let at = start; at < Math.min(end, sizeBytes); at += CHUNK_BYTES) {
			const { bytesRead } = await file.read(buffer, 0, Math.min(CHUNK_BYTES, end - at), at);
			/* A file that is shorter than it should be has another sum. */
			sum.add(buffer.subarray(0, bytesRead - (bytesRead % PAGE_BYTES)), at);
		}
	}
	return sum.result();
}

/** Where a file is no hole, by whole pages. */
export function* dataOf(fd: number): Generator<[start: number, end: number]> {
	for (let at = 0; ; ) {
		const found = nextData(fd, at);
		if (found === undefined) return;
		if (typeof found === "number") throw ErrnoError.of(-found);
		const [start, end] = found;
		at = Math.ceil(end / PAGE_BYTES) * PAGE_BYTES;
		yield [Math.floor(start / PAGE_BYTES) * PAGE_BYTES, at];
	}
}

class PageSum {
	readonly #hash: Hash = createHash("sha256");
	readonly #number = Buffer.alloc(8);
	#usedBytes = 0;

	/** @returns where runs of pages begin and end that are not all zero */
	add(chunk: Buffer, offset: number): [start: number, end: number][] {
		const runs: [number, number][] = [];
		if (chunk.equals(ZEROES.subarray(0, chunk.length))) return runs;
		const zeroPage = ZEROES.subarray(0, PAGE_BYTES);
		for (let at = 0; at < chunk.length; at += PAGE_BYTES) {
			const page = chunk.subarray(at, at + PAGE_BYTES);
			if (page.equals(zeroPage)) continue;
			this.#number.writeBigUInt64LE(BigInt((offset + at) / PAGE_BYTES));
			this.#hash.update(this.#number).update(page);
			this.#usedBytes += PAGE_BYTES;
			const last = runs.at(-1);
			if (last !== undefined && last[1] === at) last[1] = at + PAGE_BYTES;
			else runs.push([at, at + PAGE_BYTES]);
		}
		return runs;
	}

	result(): MemorySum {
		return { sha256: this.#hash.digest("hex"), usedBytes: this.#usedBytes };
	}
}

async function writeAll(file: FileHandle, bytes: Buffer, offset: number): Promise<void> {
	for (let at = 0; at < bytes.length; )
		at += (await file.write(bytes, at, bytes.length - at, offset + at)).bytesWritten;
}
