/*
 * Polling for a driver's next request. A kick costs the guest an exit and JavaScript's thread a wake-up, often more than
 * the request itself. While kicks of a queue come close together, its transport therefore looks at the ring for a moment
 * after each answer, and the driver's notifications are off meanwhile. It also collects what the backend has done.
 *
 *     kick -> serve -> look ... a new chain -> serve -> look ... nothing -> notifications on, back to the event loop
 *
 * Polling in vain is followed by a pause, each one twice as long as the last, so a queue in little use costs a look at
 * the clock. Nobody polls on a host that has no processor besides those of the vCPUs, nor in a process with several
 * machines (host/run-loop.ts). Time that is lost between two looks went to somebody else: then the processor is wanted,
 * and a thread that sleeps gets it sooner than one that polls.
 */
import type { Virtqueue } from "./queue.ts";

/** Kicks that are closer together than this are polled for. */
const POLL_MS = 0.1;
/** No longer in one turn of the event loop, which has other work. */
const TURN_MS = 0.2;
/** Time that is lost between two looks at the clock. */
const LOST_MS = 0.5;
/** The first pause and the longest. */
const LEAST_PAUSE_MS = 2;
const MOST_PAUSE_MS = 1000;
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
	/** The last pause; 0 after polling that was worth it. */
	#pauseMs = 0;
	#pausedUntilMs = Number.NEGATIVE_INFINITY;
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
		const isClose = begin - this.#doneMs < POLL_MS && begin >= this.#pausedUntilMs;
		if (!isClose || !this.#thread.mayPoll()) this.#polled.serve();
		else this.#poll(begin + TURN_MS);
		this.#doneMs = this.#now();
	}

	#poll(endOfTurn: number): void {
		const { queue } = this.#polled;
		queue.watch();
		this.#polled.serve();
		let now = this.#now();
		let end = now + POLL_MS;
		while (now < end && now < endOfTurn && !this.#thread.isWanted()) {
			const looked = now;
			if (this.#look(queue)) {
				this.#polled.serve();
				now = this.#now();
				end = now + POLL_MS;
				this.#pauseMs = 0;
			} else {
				this.#polled.collect();
				now = this.#now();
				if (now - looked > LOST_MS) this.#pauseMs = MOST_PAUSE_MS;
			}
		}
		if (now >= end) this.#pause(now);
		if (queue.unwatch()) this.#polled.serve();
	}

	#pause(now: number): void {
		this.#pauseMs = Math.min(Math.max(2 * this.#pauseMs, LEAST_PAUSE_MS), MOST_PAUSE_MS);
		this.#pausedUntilMs = now + this.#pauseMs;
	}

	#look(queue: Virtqueue): boolean {
		for (let i = 0; i < LOOKS; i++) if (queue.hasMore) return true;
		return false;
	}
}
