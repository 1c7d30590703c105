/*
 * Random numbers that a seed repeats (mulberry32), for tests with a random driver. A failure names its seed.
 */
export class Random {
	#state: number;

	constructor(seed: number) {
		this.#state = seed >>> 0;
	}

	/** 32 random bits. */
	bits(): number {
		this.#state = (this.#state + 0x6d2b79f5) >>> 0;
		let t = this.#state;
		t = Math.imul(t ^ (t >>> 15), t | 1);
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
		return (t ^ (t >>> 14)) >>> 0;
	}

	/** An integer in [0, below). */
	below(below: number): number {
		return this.bits() % below;
	}

	pick<T>(choices: readonly T[]): T {
		return choices[this.below(choices.length)]!;
	}

	chance(percent: number): boolean {
		return this.below(100) < percent;
	}
}
