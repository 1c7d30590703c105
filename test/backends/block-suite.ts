/*
 * What every BlockBackend must do (backends/contract.ts), run by each implementation's test.
 */
import { expect, test } from "vitest";
import type { BlockBackend, BlockResult } from "../../src/backends/contract.ts";
import { type ByteSource, Segments } from "../../src/base/segments.ts";

export interface BlockUnderTest {
	name: string;
	/** A disk that holds `content`, and what it holds later. Cleans up after itself. */
	make(content: Uint8Array): Promise<{ disk: BlockBackend; content(): Uint8Array | Promise<Uint8Array> }>;
	/** Memory that the backend can read and write. */
	memory(sizeBytes: number): ByteSource;
}

const SECTOR = 512;
const SECTORS = 512;

/** Collects answers, and waits for them. */
export class Answers {
	readonly results = new Map<number, BlockResult>();
	#changed: (() => void) | undefined;

	constructor(disk: BlockBackend) {
		disk.start((token, result) => {
			if (this.results.has(token)) throw new Error(`token ${token} was answered twice`);
			this.results.set(token, result);
			this.#changed?.();
		});
	}

	/** The answers to these tokens, once all are there; they may be used again then. */
	async of(...tokens: number[]): Promise<BlockResult[]> {
		while (!tokens.every((token) => this.results.has(token))) {
			await new Promise<void>((resolve) => {
				this.#changed = resolve;
			});
		}
		return tokens.map((token) => {
			const result = this.results.get(token)!;
			this.results.delete(token);
			return result;
		});
	}
}

/** A list over the parts [start, length] of a source. */
export function segmentsOf(source: ByteSource, ...parts: [start: number, length: number][]): Segments {
	const list = new Segments();
	for (const [start, length] of parts) list.add(source, start, length);
	return list;
}

export function numbered(sectors: number, seed = 0): Uint8Array {
	return Uint8Array.from({ length: sectors * SECTOR }, (_, i) => (seed + (i >> 9) * 3 + i * 5) & 0xff);
}

/** Where two arrays begin to differ, -1 when they are equal: much quicker than toEqual on a whole disk. */
export function difference(a: Uint8Array, b: Uint8Array): number {
	if (Buffer.compare(a, b) === 0) return -1;
	return a.length === b.length ? a.findIndex((byte, i) => byte !== b[i]) : Math.min(a.length, b.length);
}

export function blockSuite({ name, make, memory }: BlockUnderTest): void {
	async function opened() {
		const { disk, content } = await make(numbered(SECTORS));
		return { disk, content, answers: new Answers(disk), ram: memory(SECTORS * SECTOR) };
	}

	test(`${name} reads into several segments`, async () => {
		const { disk, answers, ram } = await opened();
		disk.read(7, 3 * SECTOR, segmentsOf(ram, [4096, 512], [100, 1000], [8192, 24]));
		disk.submit();
		expect(await answers.of(7)).toEqual(["ok"]);
		const expected = numbered(SECTORS).subarray(3 * SECTOR);
		expect(ram.bytes.slice(4096, 4096 + 512)).toEqual(expected.slice(0, 512));
		expect(ram.bytes.slice(100, 1100)).toEqual(expected.slice(512, 1512));
		expect(ram.bytes.slice(8192, 8216)).toEqual(expected.slice(1512, 1536));
		expect(ram.bytes[1100]).toBe(0);
		await disk.close();
	});

	test(`${name} writes from several segments, the first and the last sector too`, async () => {
		const { disk, content, answers, ram } = await opened();
		ram.bytes.set(numbered(4, 77));
		disk.write(0, 0, segmentsOf(ram, [0, 256], [256, 256]));
		disk.write(1, (SECTORS - 1) * SECTOR, segmentsOf(ram, [512, 512]));
		disk.submit();
		expect(await answers.of(0, 1)).toEqual(["ok", "ok"]);
		disk.flush(2);
		disk.submit();
		expect(await answers.of(2)).toEqual(["ok"]);
		const expected = numbered(SECTORS);
		expected.set(numbered(4, 77).subarray(0, 512), 0);
		expected.set(numbered(4, 77).subarray(512, 1024), (SECTORS - 1) * SECTOR);
		expect(difference(await content(), expected)).toBe(-1);
		await disk.close();
	});

	test(`${name} answers nothing before submit`, async () => {
		const { disk, answers, ram } = await opened();
		disk.read(1, 0, segmentsOf(ram, [0, 512]));
		disk.flush(2);
		await new Promise((resolve) => setImmediate(resolve));
		expect(answers.results.size).toBe(0);
		disk.submit();
		expect(await answers.of(1, 2)).toEqual(["ok", "ok"]);
		disk.submit();
		await disk.close();
	});

	test(`${name} has hundreds of requests in flight and answers each once`, async () => {
		const { disk, answers, ram } = await opened();
		const tokens = Array.from({ length: SECTORS }, (_, i) => (i * 2 + (i & 1)) % 1024);
		tokens.forEach((token, i) => {
			disk.read(token, i * SECTOR, segmentsOf(ram, [i * SECTOR, SECTOR]));
		});
		disk.submit();
		expect(new Set(await answers.of(...tokens))).toEqual(new Set(["ok"]));
		expect(difference(ram.bytes.subarray(0, SECTORS * SECTOR), numbered(SECTORS))).toBe(-1);
		await disk.close();
	});

	test(`${name} takes a request of more than a thousand segments`, async () => {
		const { disk, answers, ram } = await opened();
		const parts = Array.from({ length: 1280 }, (_, i): [number, number] => [(1279 - i) * 64, 64]);
		disk.read(1, 0, segmentsOf(ram, ...parts));
		disk.submit();
		expect(await answers.of(1)).toEqual(["ok"]);
		const whole = numbered(SECTORS).subarray(0, 1280 * 64);
		const reversed = parts.map(([at]) => ram.bytes.slice(at, at + 64));
		expect(difference(Buffer.concat(reversed), whole)).toBe(-1);
		await disk.close();
	});

	test(`${name} zeroes ranges, whether it may unmap or not`, async () => {
		const { disk, content, answers } = await opened();
		disk.writeZeroes(1, 5 * SECTOR, 3 * SECTOR, false);
		disk.writeZeroes(2, 100 * SECTOR, 300 * SECTOR, true);
		disk.submit();
		expect(await answers.of(1, 2)).toEqual(["ok", "ok"]);
		disk.writeZeroes(1, 411 * SECTOR, SECTOR, true);
		disk.writeZeroes(2, 413 * SECTOR, SECTOR, false);
		disk.submit();
		expect(await answers.of(1, 2)).toEqual(["ok", "ok"]);
		const expected = numbered(SECTORS);
		for (const [from, to] of [
			[5, 8],
			[100, 400],
			[411, 412],
			[413, 414],
		] as const) {
			expected.fill(0, from * SECTOR, to * SECTOR);
		}
		expect(difference(await content(), expected)).toBe(-1);
		await disk.close();
	});

	test(`${name} discards a range and leaves the rest alone`, async () => {
		const { disk, content, answers } = await opened();
		for (let round = 0; round < 2; round++) {
			disk.discard(1, 16 * SECTOR, 32 * SECTOR);
			disk.submit();
			expect(await answers.of(1)).toEqual(["ok"]);
		}
		const after = await content();
		const expected = numbered(SECTORS);
		/* What a discarded range reads is not defined. */
		for (const bytes of [after, expected]) bytes.fill(0, 16 * SECTOR, 48 * SECTOR);
		expect(difference(after, expected)).toBe(-1);
		await disk.close();
	});

	test(`${name} closes with requests in flight, and twice`, async () => {
		const { disk, ram } = await opened();
		for (let token = 0; token < 64; token++) disk.write(token, token * SECTOR, segmentsOf(ram, [0, 512]));
		disk.submit();
		await disk.close();
		await disk.close();
	});
}
