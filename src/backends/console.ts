/*
 * Where a console's bytes go on the host, and where its input comes from: this process's stdio, a file, or nowhere.
 */
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { errnoName, explain, HostError } from "../base/errors.ts";

/** One end of a console. */
export interface HostConsole {
	/** Called once. `onInput` returns false to pause input until `resume`. Missing when there is never any input. */
	start?(onInput: (bytes: Uint8Array) => boolean): void;
	/** Input may come again. */
	resume?(): void;
	/** Takes output; the bytes are the console's to keep. */
	write(bytes: Uint8Array): void;
	/** The machine has ended. */
	close(): void;
}

/** stdin and stdout. A terminal is not touched here: raw mode is the command's business. */
export class StdioConsole implements HostConsole {
	#onData: ((chunk: Buffer) => void) | undefined;

	start(onInput: (bytes: Uint8Array) => boolean): void {
		this.#onData = (chunk) => {
			if (!onInput(chunk)) process.stdin.pause();
		};
		process.stdin.on("data", this.#onData);
	}

	resume(): void {
		if (this.#onData !== undefined) process.stdin.resume();
	}

	write(bytes: Uint8Array): void {
		process.stdout.write(bytes);
	}

	close(): void {
		if (this.#onData !== undefined) process.stdin.off("data", this.#onData);
		this.#onData = undefined;
		process.stdin.pause();
		process.stdin.unref?.();
	}
}

/** O_NONBLOCK: neither a FIFO without a reader nor one with a slow reader may hold us up. */
const APPEND = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK;

/** A file that output is appended to; no input. A full disk loses output, never the guest. */
export class FileConsole implements HostConsole {
	readonly #fd: number;

	/** @throws HostError ERR_CONSOLE_OPEN */
	constructor(path: string) {
		try {
			this.#fd = openSync(path, APPEND, 0o600);
		} catch (cause) {
			const found = errnoName(cause) === "ENXIO" ? "nobody reads from this FIFO" : explain(cause);
			throw new HostError("ERR_CONSOLE_OPEN", `Cannot open console file ${path}: ${found}`, { cause });
		}
	}

	write(bytes: Uint8Array): void {
		try {
			writeSync(this.#fd, bytes);
		} catch {
			/* ENOSPC and the like: the console is a log, the guest goes on. */
		}
	}

	close(): void {
		closeSync(this.#fd);
	}
}

/** Takes output and forgets it. */
export class NullConsole implements HostConsole {
	write(): void {
		/* forgotten */
	}
	close(): void {
		/* nothing was opened */
	}
}
