/*
 * Polling for a driver's next request. A kick costs the guest an exit and JavaScript's thread a wake-up, often more than
 * the request itself. While kicks of a queue come close together, its transport therefore looks at the ring for a moment
 * after each answer, and the driver's notifications are off meanwhile. It also collects what the backend has done.
 *
 *     kick -> serve -> look ... a new chain -> serve -> look ... nothing -> notifications on, back to the event loop
 *
 * Each kick that comes late halves the time, so a queue in little use costs a look at the clock. Nobody polls on a host
 * that has no processor besides those of the vCPUs, nor in a process with several machines (host/run-loop.ts).
 */
import type { Virtqueue } from "./queue.ts";

/** Kicks that are closer together than this are polled for. */
const POLL_MS = 0.1;
/** Not worth a look. */
const LEAST_MS = 0.005;
/** No longer in one turn of the event loop, which has other work. */
const TURN_MS = 0.2;
/** Looks at the ring between two looks at everything else. */
const LOOKS = 32;

/** The thread that polls, as its host sees it. */
export interface PollingThread {
	/** It takes no processor from anybody. May change. */
	mayPoll(): boolean;
	/** A vCPU waits for it. */
	isWanted(): boolean;
}

/** What is polled. */
export interface Polled {
	readonly queue: Virtqueue;
	/** Takes and answers the queue's chains. */
	serve(): void;
	/** Answers what the backend has done meanwhile. */
	collect(): void;
}

/** The polling of one queue. */
export class Poller {
	readonly #thread: PollingThread;
	readonly #polled: Polled;
	readonly #now: () => number;
	#windowMs = 0;
	/** When the last notification was done with. */
	#doneMs = Number.NEGATIVE_INFINITY;

	/** @param now milliseconds */
	constructor(thread: PollingThread, polled: Polled, now: () => number = () => performance.now()) {
		this.#thread = thread;
		this.#polled = polled;
		this.#now = now;
	}

	/** The driver has kicked: serves the queue, once or, when requests come close together, again and again. */
	kicked(): void {
		const begin = this.#now();
		this.#windowMs = begin - this.#doneMs < POLL_MS ? POLL_MS : this.#windowMs / 2;
		if (this.#windowMs < LEAST_MS || !this.#thread.mayPoll()) this.#polled.serve();
		else this.#poll(begin + TURN_MS);
		this.#doneMs = this.#now();
	}

	#poll(endOfTurn: number): void {
		const { queue } = this.#polled;
		queue.watch();
		this.#polled.serve();
		for (let now = this.#now(), end = now + this.#windowMs; now < end && now < endOfTurn; now = this.#now()) {
			if (this.#thread.isWanted()) break;
			if (!this.#look(queue)) this.#polled.collect();
			else {
				this.#polled.serve();
				end = this.#now() + this.#windowMs;
			}
		}
		if (queue.unwatch()) this.#polled.serve();
	}

	#look(queue: Virtqueue): boolean {
		for (let i = 0; i < LOOKS; i++) if (queue.hasMore) return true;
		return false;
	}
}
