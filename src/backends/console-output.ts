/*
 * Console output to a pipe or terminal whose reader may sleep for hours. At most the stream's high water mark and one
 * write wait here. The rest waits in the guest.
 */
import type { Writable } from "node:stream";

/** How long the end of a machine waits for the reader of what its guest has printed, in ms. */
const CLOSE_MS = 2000;

/** Callbacks of ConsoleOutput to its owner. */
export interface ConsoleOutputEvents {
	/** There is room again. */
	drain(): void;
	/** The stream has failed. From now on output is lost. */
	failed(error: Error): void;
}

export class ConsoleOutput {
	readonly #stream: Writable;
	readonly #shared: boolean;
	readonly #drain: () => void;
	readonly #fail: (error: Error) => void;
	#usable = true;

	/** @param shared others write to `stream` as well: it stays open */
	constructor(stream: Writable, shared: boolean, events: ConsoleOutputEvents) {
		this.#stream = stream;
		this.#shared = shared;
		this.#drain = () => events.drain();
		this.#fail = (error) => {
			if (!this.#usable) return;
			this.#usable = false;
			events.failed(error);
		};
		stream.on("drain", this.#drain).on("error", this.#fail);
	}

	/** Takes a copy. False: no more before `drain`. */
	write(bytes: Uint8Array): boolean {
		return !this.#usable || this.#stream.write(Buffer.from(bytes));
	}

	/** Waits for the reader, but no longer than CLOSE_MS. */
	async close(): Promise<void> {
		if (this.#usable && this.#stream.writableLength > 0) await this.#flushed();
		this.#usable = false;
		if (this.#shared) this.#stream.off("drain", this.#drain).off("error", this.#fail);
		else this.#stream.destroy();
	}

	#flushed(): Promise<void> {
		return new Promise((resolve) => {
			const timer = setTimeout(resolve, CLOSE_MS);
			/* An empty write ends after all writes before it. The callback also gets an error. */
			this.#stream.write("", () => {
				clearTimeout(timer);
				resolve();
			});
		});
	}
}
