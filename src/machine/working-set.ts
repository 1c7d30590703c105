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
		ram.useSmallPages();
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
		if (this.#isOver) return;
		this.giveUp();
		const image = this.#image;
		const used = async () => {
			const pages = await this.#ram.touchedPages();
			/* The others need no read. */
			pages.keep(image.memory.usedPages);
			return pages;
		};
		this.#work = image.keepWorkingSet(used).catch(ignore);
	}

	/** Records nothing any more, as when all of the memory was read for another reason. */
	giveUp(): void {
		this.#isOver = true;
		clearTimeout(this.#timer);
	}

	async close(): Promise<void> {
		this.giveUp();
		await this.#work;
	}
}
