/*
 * Standard output that never blocks this thread. A guest's output may wait for hours in `| less` or after Ctrl-S, and
 * meanwhile this thread must serve devices and signals.
 *
 * The pipe or terminal is opened again by its name in /proc. O_NONBLOCK is a flag of the open file, which other
 * processes share (`(tsvmm run a & make) | less`). They expect a blocking file and would fail with EAGAIN.
 */
import { closeSync, constants, fstatSync, openSync, writeSync } from "node:fs";
import { Writable } from "node:stream";
import { isatty } from "node:tty";
import { errnoName } from "../base/errors.ts";
import { type Watch, WRITABLE, watch } from "./reactor.ts";

/** A timer that only keeps the process alive while bytes wait to be written. */
const LONG_MS = 2 ** 31 - 1;

/**
 * A stream to the pipe or terminal of `fd`. The caller destroys it. Undefined for a file, which never blocks for long,
 * and for a socket or another user's pipe, which cannot be opened again. Then use Node's stream.
 */
export function openOutput(fd: number): Writable | undefined {
	try {
		if (!mayBlock(fd)) return undefined;
		const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
		return outputTo(openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY));
	} catch {
		return undefined;
	}
}

/** True when a write to `fd` may wait for a reader: a pipe or a terminal, but no file. */
export function mayBlock(fd: number): boolean {
	const found = fstatSync(fd);
	return found.isFIFO() || (found.isCharacterDevice() && isatty(fd));
}

/** A stream to a pipe or terminal that is open with O_NONBLOCK. It owns `fd`. The caller destroys the stream. */
export function outputTo(fd: number): Writable {
	return new Output(fd);
}

class Output extends Writable {
	readonly #fd: number;
	#watch: Watch | undefined;
	#waiting: { data: Buffer; done: (error?: Error | null) => void } | undefined;
	#alive: NodeJS.Timeout | undefined;

	/** @param fd non-blocking, its own from now on */
	constructor(fd: number) {
		super({ decodeStrings: true });
		this.#fd = fd;
	}

	override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
		this.#waiting = { data: chunk, done };
		this.#pass();
	}

	override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
		this.#idle();
		this.#watch?.close();
		closeSync(this.#fd);
		const { done } = this.#waiting ?? {};
		this.#waiting = undefined;
		done?.(error ?? new Error("the stream was destroyed"));
		callback(error);
	}

	#pass(): void {
		const waiting = this.#waiting;
		if (waiting === undefined) return;
		try {
			while (waiting.data.length > 0) waiting.data = waiting.data.subarray(writeSync(this.#fd, waiting.data));
		} catch (error) {
			const name = errnoName(error);
			if (name === "EAGAIN" || name === "EINTR") this.#wait();
			else this.#settle(error as Error);
			return;
		}
		this.#settle();
	}

	#wait(): void {
		this.#alive ??= setInterval(() => undefined, LONG_MS);
		if (this.#watch === undefined) this.#watch = watch(this.#fd, WRITABLE, () => this.#pass());
		else this.#watch.set(WRITABLE);
	}

	#settle(error?: Error): void {
		const done = this.#waiting?.done;
		this.#waiting = undefined;
		this.#idle();
		done?.(error);
	}

	#idle(): void {
		clearInterval(this.#alive);
		this.#alive = undefined;
		this.#watch?.set(0);
	}
}
