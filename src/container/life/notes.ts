/*
 * What a supervisor tells the command that has started it and stays: lines about the machine, such as the events of a trace.
 * They go through a stream of their own, so that the machine never waits for a terminal, and end with the first run of
 * the container's process. A command that has gone misses them.
 */
import { Socket } from "node:net";
import type { Writable } from "node:stream";
import { ignore } from "../../base/errors.ts";
import { describeFaults, type Faults } from "../../base/faults.ts";
import type { Observer } from "../../base/observer.ts";
import { CHANNEL_FD } from "../../host/detached-process.ts";

export interface NoteOptions {
	/** Events that are printed; none when missing. */
	readonly trace?: readonly string[] | undefined;
	/** Nothing but the trace. */
	readonly quiet?: boolean | undefined;
}

/** Bytes that may wait for the command. */
const MAX_HELD_BYTES = 16 << 20;
/** How long it may take for the last of them. */
const END_MS = 5000;

export class Notes {
	readonly #stream: Writable;
	readonly #options: NoteOptions;
	#lost = 0;
	#hasEnded = false;

	/** @param stream to the command; the one that this process was given when missing */
	constructor(options: NoteOptions, stream: Writable = new Socket({ fd: CHANNEL_FD, readable: false })) {
		this.#options = options;
		this.#stream = stream.on("error", ignore);
	}

	/** A line without its end. */
	say(line: string): void {
		if (this.#hasEnded || this.#stream.destroyed) return;
		if (this.#stream.writableLength > MAX_HELD_BYTES) {
			this.#lost++;
			return;
		}
		if (this.#lost > 0) this.#stream.write(`tsvmm: ${this.#lost} lines are missing: they came faster than they went\n`);
		this.#lost = 0;
		this.#stream.write(`${line}\n`);
	}

	/** An observer that says events as `boot --trace` does; undefined when no trace is wanted. */
	async observer(): Promise<Observer | undefined> {
		const { trace } = this.#options;
		if (trace === undefined) return undefined;
		const { printedTrace } = await import("./printed-trace.ts");
		return printedTrace(trace, (line) => this.say(line));
	}

	/** What faults did. */
	tell(faults: Faults): void {
		if (this.#options.quiet) return;
		for (const line of describeFaults(faults)) this.say(`tsvmm: ${line}`);
	}

	/** Nothing is said any more. A second call does nothing. */
	end(): void {
		if (this.#hasEnded) return;
		this.#hasEnded = true;
		this.#stream.end();
		setTimeout(() => this.#stream.destroy(), END_MS).unref();
	}
}
