/*
 * Lets one asynchronous piece of work run after the other, in the order in which they came.
 */
export class Mutex {
	#last: Promise<unknown> = Promise.resolve();

	/** Runs `work` when all work from before has ended, well or not. */
	run<T>(work: () => Promise<T>): Promise<T> {
		const result = this.#last.then(work);
		this.#last = result.catch(() => undefined);
		return result;
	}
}
