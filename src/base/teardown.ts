/*
 * The one owner of things that must be undone in reverse order: each step is registered as soon as its resource
 * exists, and `run` undoes all of them once, on success as on failure.
 */

export class Teardown {
	readonly #steps: (() => void | Promise<void>)[] = [];
	readonly #closed = new WeakSet<object>();
	#done: Promise<void> | undefined;

	/** Registers how to undo what was just done. */
	add(undo: () => void | Promise<void>): void {
		this.#steps.push(undo);
	}

	/** Registers something to be closed. Registered twice, it is closed once, in the place of the last time. */
	owns<T extends { close(): void | Promise<void> }>(part: T): T {
		this.add(() => {
			if (this.#closed.has(part)) return;
			this.#closed.add(part);
			return part.close();
		});
		return part;
	}

	/** Undoes everything, last first; later calls give the same promise. The first failure is thrown after the last step. */
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
