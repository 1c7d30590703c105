/*
 * Undoes steps in reverse order. A step is registered as soon as its resource exists. `run` undoes all of them once,
 * after a success and after a failure.
 */

export class Teardown {
	readonly #steps: (() => void | Promise<void>)[] = [];
	readonly #closed = new WeakSet<object>();
	#done: Promise<void> | undefined;

	/** Registers how to undo the last step. */
	add(undo: () => void | Promise<void>): void {
		this.#steps.push(undo);
	}

	/** Registers an object to close. An object that is registered twice is closed once, in the second place. */
	owns<T extends { close(): void | Promise<void> }>(part: T): T {
		this.add(() => {
			if (this.#closed.has(part)) return;
			this.#closed.add(part);
			return part.close();
		});
		return part;
	}

	/**
	 * Undoes everything, last first. The first failure is thrown after the last step. Later calls return the same
	 * promise.
	 */
	run(): Promise<void> {
		this.#done ??= this.#undo();
		return this.#done;
	}

	async #undo(): Promise<void> {
		const failures: unknown[] = [];
		for (let undo = this.#steps.pop(); undo !== undefined; undo = this.#steps.pop()) {
			try {
				await undo();
			} catch (error) {
				failures.push(error);
			}
		}
		if (failures.length > 0) throw failures[0];
	}
}
