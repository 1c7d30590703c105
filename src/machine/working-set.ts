/*
 * Records the working set of a snapshot (snapshot/working-set.ts): which pages of its memory the first machine that goes on
 * from it uses in its first seconds, or until a container's process has begun. Nothing counts them: the host knows which pages
 * a process has mapped.
 */
import { ignore } from "../base/errors.ts";
import type { GuestRam } from "../host/ram.ts";
import type { SnapshotImage } from "../snapshot/snapshot.ts";

/** A guest has found its devices by then, and does what it did before. */
const AFTER_MS = 5000;

/** Records once. Its owner closes it before the RAM. */
export class WorkingSetRecorder {
	readonly #ram: GuestRam;
	readonly #image: SnapshotImage;
	#timer: NodeJS.Timeout | undefined;
	#isTold = false;
	#isOver = false;
	#work: Promise<void> | undefined;

	constructor(ram: GuestRam, image: SnapshotImage) {
		ram.useHugePages(false);
		this.#ram = ram;
		this.#image = image;
	}

	/** Somebody knows when the guest has what it needs, and calls `record` then. */
	awaitRecord(): void {
		this.#isTold = true;
	}

	/** The machine has started. @param isRunning a guest that was stopped meanwhile has not used what it will */
	started(isRunning: () => boolean): void {
		if (this.#isTold || this.#isOver) return;
		this.#timer = setTimeout(() => (isRunning() ? this.record() : this.giveUp()), AFTER_MS).unref();
	}

	/** Writes what was used until now, the first time that it is called. A failure leaves the snapshot without it. */
	record(): void {
		if (!this.#finish()) return;
		const { memory } = this.#image;
		const used = async () => {
			const pages = await this.#ram.touchedPages();
			/* The others need no read. */
			pages.keep(memory.usedPages);
			return pages;
		};
		const work = this.#image.keepWorkingSet(used).catch(ignore);
		this.#work = work.then(() => this.#ram.useHugePages(true));
	}

	/** Records nothing any more, as when all of the memory was read for another reason. */
	giveUp(): void {
		if (this.#finish()) this.#ram.useHugePages(true);
	}

	async close(): Promise<void> {
		this.giveUp();
		await this.#work;
	}

	/** @returns false after the first call */
	#finish(): boolean {
		if (this.#isOver) return false;
		this.#isOver = true;
		clearTimeout(this.#timer);
		return true;
	}
}
