/*
 * A disk as a plain array, and random requests on both.
 */
import { expect } from "vitest";
import type { BlockBackend } from "../../../src/backends/contract.ts";
import type { ByteSource } from "../../../src/base/segments.ts";
import type { Random } from "../../driver/random.ts";
import { type Answers, difference, segmentsOf } from "../block-suite.ts";
import { memory } from "./images.ts";

/** Random requests, several at a time, against a plain array. */
export class Model {
	readonly content: Uint8Array;
	/** Not 0 for sectors that were written. */
	readonly touched: Uint8Array;
	readonly #random: Random;
	readonly #ram: ByteSource;
	readonly #maxBytes: number;

	constructor(content: Uint8Array, random: Random, maxBytes: number) {
		this.content = content;
		this.touched = new Uint8Array(content.length / 512);
		this.#random = random;
		this.#maxBytes = maxBytes;
		this.#ram = memory(8 * maxBytes);
	}

	/** Requests on parts of the disk that have nothing in common, so that their order does not count. */
	async round(disk: BlockBackend, answers: Answers, flushes = true): Promise<void> {
		const random = this.#random;
		const sectors = this.content.length / 512;
		const count = 1 + random.below(8);
		const reads: (() => void)[] = [];
		for (let token = 0; token < count; token++) {
			const from = Math.floor((sectors * token) / count);
			const room = Math.floor((sectors * (token + 1)) / count) - from;
			const length = Math.min(1 + random.below(room), this.#maxBytes / 512);
			const [at, bytes] = [(from + random.below(room - length + 1)) * 512, length * 512];
			const list = segmentsOf(this.#ram, [token * this.#maxBytes, bytes]);
			const own = this.#ram.bytes.subarray(token * this.#maxBytes, token * this.#maxBytes + bytes);
			const part = this.content.subarray(at, at + bytes);
			const what = random.pick(["read", "write", "write", "write", "zero", "unmap", "discard"]);
			if (what !== "read") this.touched.fill(1, at / 512, at / 512 + length);
			switch (what) {
				case "read":
					disk.read(token, at, list);
					reads.push(() => expect(difference(own, part)).toBe(-1));
					break;
				case "write":
					own.fill(1 + random.below(255));
					part.set(own);
					disk.write(token, at, list);
					break;
				case "zero":
					part.fill(0);
					disk.writeZeroes(token, at, bytes, false);
					break;
				case "unmap":
					part.fill(0);
					disk.writeZeroes(token, at, bytes, true);
					break;
				default:
					/* What it reads is not defined; zeroes define it again. */
					disk.discard(token, at, bytes);
					disk.submit();
					expect(await answers.of(token)).toEqual(["ok"]);
					part.fill(0);
					disk.writeZeroes(token, at, bytes, random.chance(50));
			}
		}
		disk.submit();
		const tokens = Array.from({ length: count }, (_, token) => token);
		expect(new Set(await answers.of(...tokens))).toEqual(new Set(["ok"]));
		for (const read of reads) read();
		if (flushes && random.chance(20)) {
			disk.flush(9);
			disk.submit();
			expect(await answers.of(9)).toEqual(["ok"]);
		}
	}
}
