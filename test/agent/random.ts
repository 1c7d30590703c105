/*
 * Random numbers and frames from a seed (mulberry32), for fuzzing: the same seed gives the same bytes.
 */
import { encodeFrame } from "../../src/agent/protocol.ts";

export class Random {
	#state: number;

	constructor(seed: number) {
		this.#state = seed;
	}

	/** 0 to below. */
	below(limit: number): number {
		this.#state = (this.#state + 0x6d2b79f5) | 0;
		let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) % limit;
	}

	of<T>(choices: readonly T[]): T {
		return choices[this.below(choices.length)]!;
	}

	bytes(length: number): Buffer {
		return Buffer.from(Array.from({ length }, () => this.below(256)));
	}

	/** `data` with a few bits, bytes or its length changed. */
	mutate(data: Buffer): Buffer {
		const mutated = Buffer.from(data);
		for (let i = this.below(4); i > 0 && mutated.length > 0; i--) {
			const at = this.below(mutated.length);
			mutated[at] = this.of([mutated[at]! ^ (1 << this.below(8)), this.below(256), 0, 0xff]);
		}
		return this.below(4) === 0 ? mutated.subarray(0, this.below(mutated.length + 1)) : mutated;
	}
}

/** A frame whose header is in order and whose payload need not be. */
export function randomFrame(random: Random, types: readonly number[], sessions: readonly number[]): Buffer {
	const payload = random.of([
		() => Buffer.alloc(0),
		() => random.bytes(random.below(12)),
		() => Buffer.from([random.below(4), 0, 0, 0]),
		() => Buffer.from([random.below(256), random.below(256), random.below(3), 0]),
		() => Buffer.alloc(random.of([100, 4096, 65536])),
		() => Buffer.concat([Buffer.from([125 + random.below(4), 0, 0, 0, 2, 0, 0, 0]), random.bytes(random.below(40))]),
	])();
	const flags = random.of([0, 0, 0, 1, 2, random.below(256)]);
	return encodeFrame(random.of(types), flags, random.of(sessions), payload);
}
