/*
 * The pieces of one request. They are done side by side, but not more than some at once. The request has ended when all of
 * them have, also when one has failed: until then the host may use its memory.
 */

/** A longer request waits for its first pieces before it begins the next. */
const MAX_PIECES = 64;

export class Pieces {
	readonly #pieces = new Set<Promise<void>>();
	#failure: { cause: unknown } | undefined;

	/**
	 * Calls `next` until it has done `total`.
	 *
	 * @param next begins what comes after `done`, and returns how much that is
	 * @throws what `next` or the first piece that failed has thrown, after all have ended
	 */
	static async of(total: number, next: (done: number, pieces: Pieces) => Promise<number>): Promise<void> {
		const pieces = new Pieces();
		try {
			for (let done = 0; done < total && pieces.#failure === undefined; ) done += await next(done, pieces);
		} finally {
			await Promise.all(pieces.#pieces);
		}
		if (pieces.#failure !== undefined) throw pieces.#failure.cause;
	}

	/** Takes a piece that has begun. Resolves when there is room for another one. */
	async add(work: Promise<void>): Promise<void> {
		const piece = work
			.catch((cause: unknown) => {
				this.#failure ??= { cause };
			})
			.then(() => void this.#pieces.delete(piece));
		this.#pieces.add(piece);
		if (this.#pieces.size >= MAX_PIECES) await Promise.race(this.#pieces);
	}
}
