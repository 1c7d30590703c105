/*
 * Consoles on the host: this process's stdio, a file, or none.
 */
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { isatty } from "node:tty";
import { errnoName, explain, HostError } from "../base/errors.ts";
import { Logger } from "../base/log.ts";
import { mayBlock, openOutput, outputTo } from "../host/output.ts";
import { ConsoleOutput } from "./console-output.ts";
import type { ConsoleBackend, ConsoleEvents } from "./contract.ts";

/** Options of a StdioConsole. */
export interface StdioConsoleOptions {
	/** Called when standard output has failed. The guest runs on without it. When missing, the log gets a warning. */
	readonly onError?: (error: Error) => void;
}

/** stdin and stdout. It does not change the terminal's mode: the command does. */
export class StdioConsole implements ConsoleBackend {
	readonly #output: ConsoleOutput;
	#events: ConsoleEvents | undefined;
	#onData: ((bytes: Buffer) => void) | undefined;
	#onResize: (() => void) | undefined;
	#open = true;

	constructor({ onError }: StdioConsoleOptions = {}) {
		const logger = Logger.current;
		const own = openOutput(1);
		this.#output = new ConsoleOutput(own ?? process.stdout, own === undefined, {
			drain: () => this.#events?.writable(),
			failed: (error) => {
				if (onError !== undefined) onError(error);
				else logger.log("warn", `console output is lost: ${explain(error)}`);
				this.#events?.writable();
			},
		});
	}

	/** The terminal's, when standard output is one. */
	get size(): { columns: number; rows: number } | undefined {
		if (!isatty(1)) return undefined;
		const { columns, rows } = process.stdout;
		return { columns, rows };
	}

	start(events: ConsoleEvents): void {
		this.#events = events;
		this.#onData = (bytes) => events.input(bytes);
		process.stdin.on("data", this.#onData);
		if (!isatty(1)) return;
		this.#onResize = () => events.resized(process.stdout.columns, process.stdout.rows);
		process.stdout.on("resize", this.#onResize);
	}

	write(bytes: Uint8Array): boolean {
		return this.#output.write(bytes);
	}

	setInputWanted(wanted: boolean): void {
		if (this.#onData === undefined) return;
		if (wanted) process.stdin.resume();
		else process.stdin.pause();
	}

	async close(): Promise<void> {
		if (!this.#open) return;
		this.#open = false;
		if (this.#onData !== undefined) process.stdin.off("data", this.#onData);
		this.#onData = undefined;
		if (this.#onResize !== undefined) process.stdout.off("resize", this.#onResize);
		process.stdin.pause();
		process.stdin.unref?.();
		await this.#output.close();
	}
}

/** O_NONBLOCK: a FIFO without a reader or with a slow one must not block us. */
const APPEND = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK | constants.O_NOCTTY;

/**
 * A file that output is appended to, without input. Output is lost when the disk is full, or when nobody reads from a
 * FIFO. A slow reader of a FIFO makes the guest wait.
 */
export class FileConsole implements ConsoleBackend {
	readonly #path: string;
	/** The descriptor of a file that never blocks: a regular file or /dev/null. */
	readonly #file: number | undefined;
	/** Output that may block, such as a FIFO; undefined while it has no reader. */
	#pipe: ConsoleOutput | undefined;
	#events: ConsoleEvents | undefined;
	#open = true;

	/** @throws HostError ERR_CONSOLE_OPEN */
	constructor(path: string) {
		this.#path = path;
		try {
			const fd = openSync(path, APPEND, 0o600);
			if (mayBlock(fd)) this.#pipe = this.#outputTo(fd);
			else this.#file = fd;
		} catch (cause) {
			const found = errnoName(cause) === "ENXIO" ? "nobody reads from this FIFO" : explain(cause);
			throw new HostError("ERR_CONSOLE_OPEN", `Cannot open console file ${path}: ${found}`, { cause });
		}
	}

	start(events: ConsoleEvents): void {
		this.#events = events;
	}

	write(bytes: Uint8Array): boolean {
		if (!this.#open) return true;
		if (this.#file === undefined) {
			this.#pipe ??= this.#reopen();
			return this.#pipe?.write(bytes) ?? true;
		}
		try {
			writeSync(this.#file, bytes);
		} catch {
			/* On ENOSPC and the like the guest goes on: the console is only a log. */
		}
		return true;
	}

	async close(): Promise<void> {
		if (!this.#open) return;
		this.#open = false;
		if (this.#file !== undefined) closeSync(this.#file);
		await this.#pipe?.close();
	}

	#outputTo(fd: number): ConsoleOutput {
		return new ConsoleOutput(outputTo(fd), false, {
			drain: () => this.#events?.writable(),
			/* The reader has gone. `write` opens the FIFO again for the next one. */
			failed: () => {
				this.#pipe = undefined;
				this.#events?.writable();
			},
		});
	}

	#reopen(): ConsoleOutput | undefined {
		try {
			return this.#outputTo(openSync(this.#path, APPEND & ~constants.O_CREAT));
		} catch {
			return undefined;
		}
	}
}

/** A console that drops all output. */
export class NullConsole implements ConsoleBackend {
	write(): boolean {
		return true;
	}
	async close(): Promise<void> {
		/* nothing was opened */
	}
}
