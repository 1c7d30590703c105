/*
 * What a container's supervisor says while the command stays with it, on the command's stderr, in whole lines. It is loaded
 * for a trace that is printed, and for what tells of itself.
 */
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { ignore } from "../../base/errors.ts";

/** After so long without a line nothing comes any more: the command was detached from the container. */
const IDLE_MS = 1000;

export class PrintedNotes {
	readonly #stderr: Writable;
	readonly #lineEnd: string;
	#stream: Readable | undefined;
	#printed: Promise<void> = Promise.resolve();
	#chunks = 0;
	/** The terminal takes its time. */
	#writing = false;

	/** @param lineEnd "\r\n" for a terminal that is raw */
	constructor(stderr: Writable, lineEnd: "\n" | "\r\n") {
		this.#stderr = stderr;
		this.#lineEnd = lineEnd;
	}

	/** Prints what comes from the supervisor. */
	follow(stream: Readable): void {
		this.#stream = stream;
		this.#printed = this.#print(stream.setEncoding("utf8")).catch(ignore);
	}

	/** Resolves when all is printed. */
	async finished(): Promise<void> {
		let isOver = false;
		const over = this.#printed.then(() => {
			isOver = true;
		});
		for (let before = -1; !isOver && (this.#writing || this.#chunks !== before); ) {
			before = this.#chunks;
			await Promise.race([over, sleep(IDLE_MS, undefined, { ref: false })]);
		}
		this.#stream?.destroy();
	}

	async #print(stream: Readable): Promise<void> {
		let text = "";
		for await (const chunk of stream) {
			this.#chunks++;
			text += chunk as string;
			const end = text.lastIndexOf("\n") + 1;
			await this.#write(text.slice(0, end).replaceAll("\n", this.#lineEnd));
			text = text.slice(end);
		}
	}

	/** Resolves also when nobody reads it any more. */
	async #write(text: string): Promise<void> {
		if (text === "" || this.#stderr.destroyed) return;
		this.#writing = true;
		await new Promise<void>((resolve) => this.#stderr.write(text, () => resolve()));
		this.#writing = false;
	}
}
