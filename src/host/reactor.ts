/*
 * The only way for a host event into JavaScript: `watch` calls back on the JavaScript thread when a file descriptor is
 * ready. On the hot path it is between KVM's ioeventfd and a device's `notify`.
 */
import { type Enter, enterDirectly } from "../base/enter.ts";
import { type Handle, native } from "./native.ts";

export const READABLE = 1;
export const WRITABLE = 2;

/** An active watch; `close` before the fd is closed. */
export interface Watch {
	/** Changes the events to wait for (READABLE | WRITABLE, or 0 for none). */
	set(events: number): void;
	/** Ends it. */
	close(): void;
}

/** On whose behalf a watch calls back. */
export interface WatchOptions {
	/** The way into the machine that the callback belongs to; direct when missing. */
	readonly enter?: Enter | undefined;
	/** Of the device or backend. */
	readonly name?: string | undefined;
}

/**
 * Calls `onReady` whenever `fd` is ready (level-triggered). One watch per fd; the fd becomes non-blocking. A watch does
 * not keep the process alive.
 *
 * @param events READABLE, WRITABLE or both
 * @throws Error when the fd cannot be polled (a regular file) or is watched already
 */
export function watch(
	fd: number,
	events: number,
	onReady: (events: number) => void,
	options: WatchOptions = {},
): Watch {
	return new Poll(fd, events, onReady, { drain: false, ...options });
}

class Poll implements Watch {
	readonly #handle: Handle;
	#open = true;
	#ready = 0;

	/** @param options.drain read the fd, which is an eventfd, before each call */
	constructor(
		fd: number,
		events: number,
		onReady: (events: number) => void,
		{ drain, enter = enterDirectly, name = `fd ${fd}` }: WatchOptions & { drain: boolean },
	) {
		/* Made once: an event allocates nothing. */
		const run = () => {
			if (this.#open) onReady(this.#ready);
		};
		this.#handle = native().pollCreate(fd, events, drain, (ready) => {
			this.#ready = ready;
			enter(name, run);
		});
	}

	set(events: number): void {
		if (this.#open) native().pollSet(this.#handle, events);
	}

	close(): void {
		if (!this.#open) return;
		this.#open = false;
		native().pollDestroy(this.#handle);
	}
}

/** Like `watch`, for an eventfd that is read (and so reset) before each call. */
export function watchEventFd(fd: number, onSignal: () => void, options: WatchOptions = {}): Watch {
	return new Poll(fd, READABLE, onSignal, { drain: true, ...options });
}
