/*
 * Cuts long work on the JavaScript thread into slices of 10 ms. Between two slices signals, sockets and timers are
 * served, and an aborted work ends.
 */
import { setImmediate } from "node:timers/promises";

const SLICE_MS = 10;
/** Steps between two looks at the clock: one look per step would cost too much. */
const STEPS_PER_LOOK = 8;

export class Pace {
	readonly #signal: AbortSignal | undefined;
	readonly #sliceMs: number;
	#steps = 0;
	#began = performance.now();

	constructor(signal?: AbortSignal, sliceMs = SLICE_MS) {
		this.#signal = signal;
		this.#sliceMs = sliceMs;
	}

	/**
	 * Call it once per step. It returns undefined within a slice, and a promise to await at the end of one.
	 *
	 * @throws the signal's reason, by way of the promise
	 */
	step(): Promise<void> | undefined {
		if (++this.#steps % STEPS_PER_LOOK !== 0 || performance.now() - this.#began < this.#sliceMs) return undefined;
		return this.#turn();
	}

	async #turn(): Promise<void> {
		this.#signal?.throwIfAborted();
		await setImmediate();
		this.#signal?.throwIfAborted();
		this.#began = performance.now();
	}
}
