/*
 * A console on two Node streams: standard input and output, a file, a socket, a pair of pipes. It does not own the
 * streams: whoever opened them closes them.
 */
import type { Readable, Writable } from "node:stream";
import type { ConsoleBackend, ConsoleEvents } from "./contract.ts";

export interface StreamConsoleOptions {
	/** Where output goes. */
	output: Writable;
	/** Where input comes from; none unless given. */
	input?: Readable | undefined;
	/** Size of the terminal; `resize` changes it. */
	size?: { columns: number; rows: number } | undefined;
}

export class StreamConsole implements ConsoleBackend {
	size: { columns: number; rows: number } | undefined;
	readonly #input: Readable | undefined;
	readonly #output: Writable;
	#events: ConsoleEvents | undefined;
	/** Undoes what `start` has attached. */
	#detach: () => void = () => undefined;

	constructor({ output, input, size }: StreamConsoleOptions) {
		this.#output = output;
		this.#input = input;
		this.size = size;
	}

	start(events: ConsoleEvents): void {
		this.#events = events;
		const onData = (bytes: Uint8Array | string) => events.input(typeof bytes === "string" ? Buffer.from(bytes) : bytes);
		const onDrain = () => events.writable();
		/* A reader that has gone away is no reason to stop the guest; its output goes nowhere from now on. */
		const onError = () => events.writable();
		this.#input?.on("data", onData);
		this.#output.on("drain", onDrain);
		this.#output.on("error", onError);
		this.#detach = () => {
			this.#input?.off("data", onData);
			this.#input?.pause();
			this.#output.off("drain", onDrain);
			this.#output.off("error", onError);
		};
	}

	/** The terminal has another size now. */
	resize(columns: number, rows: number): void {
		this.size = { columns, rows };
		this.#events?.resized(columns, rows);
	}

	write(bytes: Uint8Array): boolean {
		if (!this.#output.writable) return true;
		/* A copy: the stream keeps it, and the guest may write to the original at once. */
		return this.#output.write(Buffer.from(bytes));
	}

	setInputWanted(wanted: boolean): void {
		if (wanted) this.#input?.resume();
		else this.#input?.pause();
	}

	async close(): Promise<void> {
		this.#detach();
		this.#detach = () => undefined;
		this.#events = undefined;
	}
}
