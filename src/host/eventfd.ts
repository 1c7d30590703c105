/*
 * An eventfd (eventfd(2)). KVM signals one on a kick (ioeventfd). A device signals one for an interrupt (irqfd).
 */
import type { Enter } from "../base/enter.ts";
import { native } from "./native.ts";
import { type Watch, watchEventFd } from "./reactor.ts";

/** A counter behind a file descriptor. Its owner closes it. */
export class EventFd {
	/** The file descriptor. */
	readonly fd: number;
	#watch: Watch | undefined;
	#open = true;

	/** Non-blocking, close-on-exec. */
	constructor() {
		this.fd = native().eventfdCreate();
	}

	/** Adds one to the counter. */
	signal(): void {
		if (this.#open) native().eventfdSignal(this.fd);
	}

	/**
	 * Calls `onSignal` for each signal (several may become one call) until `close`.
	 *
	 * @param enter the way into the machine that `onSignal` belongs to, on behalf of `name`
	 */
	watch(onSignal: () => void, enter?: Enter, name?: string): Watch {
		this.#watch?.close();
		this.#watch = watchEventFd(this.fd, onSignal, { enter, name });
		return this.#watch;
	}

	/** Closes it, and ends the watch. A second call does nothing. */
	close(): void {
		if (!this.#open) return;
		this.#open = false;
		this.#watch?.close();
		native().fdClose(this.fd);
	}
}
