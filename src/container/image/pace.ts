/*
 * Long work on the JavaScript thread in slices: every 10 ms others have their turn (signals, sockets, timers), and work
 * that nobody wants any more ends there.
 */
import { setImmediate } from "node:timers/promises";

const SLICE_MS = 10;
/** Looking at the clock for each of a million entries would cost more than it gains. */
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
	 * Called once per step. Undefined as long as the slice lasts; otherwise await it before going on.
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
