/*
 * Connects a process elsewhere (in a container's microVM, in the lab) to this process's streams, terminal and signals.
 * This file carries bytes, sizes and signals. The caller says what a signal does.
 */
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { isatty } from "node:tty";
import { FORWARDED_SIGNALS } from "../base/signals.ts";
import { rawTerminal, restoreTerminal } from "./terminal.ts";

/** The user's side of the process. */
export interface ForegroundStdio {
	/** When missing, the process gets no input. */
	stdin?: Readable;
	stdout: Writable;
	stderr: Writable;
	/** Makes the process's stdio a terminal. */
	terminal?: ForegroundTerminal;
	/** Calls with each signal to forward, by number, until the returned function is called. */
	onSignal(handler: (signal: number) => void): () => void;
}

export interface ForegroundTerminal {
	size(): { columns: number; rows: number };
	/** Raw mode on, just before the process starts. */
	raw(): void;
	restore(): void;
	onResize(handler: () => void): () => void;
}

/** The process elsewhere. */
export interface ForegroundProcess<Exit> {
	readonly stdin: Writable;
	readonly stdout: Readable;
	readonly stderr: Readable;
	/** Settles when it has ended. */
	readonly exit: Promise<Exit>;
	resize(columns: number, rows: number): void;
}

export interface OwnStdioOptions {
	/** True to pass standard input on. */
	stdin: boolean;
	/** A terminal for the process; its size follows ours when we have one. */
	tty: boolean;
	/** Instead of Node's process.stdout, which is then not opened. The caller closes them. */
	stdout?: Writable | undefined;
	stderr?: Writable | undefined;
	/** Signals to forward besides FORWARDED_SIGNALS. */
	alsoForward?: readonly NodeJS.Signals[];
}

/** This process's streams, terminal and signals. The caller calls `close` when the process has ended. */
export function ownStdio(options: OwnStdioOptions): ForegroundStdio & { close(): void } {
	const { stdin, tty, alsoForward = [] } = options;
	/* With a terminal, SIGWINCH passes its new size on. */
	const forwarded = [...FORWARDED_SIGNALS, ...alsoForward, ...(tty ? [] : ["SIGWINCH" as const])];
	return {
		stdout: options.stdout ?? process.stdout,
		stderr: options.stderr ?? process.stderr,
		...(stdin ? { stdin: process.stdin } : {}),
		...(tty ? { terminal: ownTerminal(stdin) } : {}),
		onSignal: (handler) => {
			const handlers = forwarded.map((name) => [name, () => handler(constants.signals[name])] as const);
			for (const [name, one] of handlers) process.on(name, one);
			return () => {
				for (const [name, one] of handlers) process.off(name, one);
			};
		},
		close: () => {
			/* A pending read of standard input would keep this process alive. */
			if (stdin) process.stdin.destroy();
		},
	};
}

function ownTerminal(stdin: boolean): ForegroundTerminal {
	const raw = stdin && process.stdin.isTTY === true;
	return {
		size: () => {
			const { columns = 80, rows = 24 } = isatty(1) ? process.stdout : process.stderr;
			return { columns, rows };
		},
		raw: () => {
			if (raw) rawTerminal(0);
		},
		restore: () => {
			if (raw) restoreTerminal();
		},
		onResize: (handler) => {
			process.on("SIGWINCH", handler);
			return () => process.off("SIGWINCH", handler);
		},
	};
}

/**
 * Connects the process's streams and terminal with the user's. Resolves with its exit status when it has ended and its
 * output is written; rejects as `process.exit` does.
 *
 * @param readerGone called when output cannot be written (`| head`), to tell the process as its own pipe would: SIGPIPE
 */
export async function attach<Exit>(
	process: ForegroundProcess<Exit>,
	{ stdin, stdout, stderr, terminal }: ForegroundStdio,
	readerGone: () => void,
): Promise<Exit> {
	const stopResize = terminal?.onResize(() => {
		const { columns, rows } = terminal.size();
		process.resize(columns, rows);
	});
	process.stdin.on("error", () => undefined);
	stdin?.pipe(process.stdin);
	try {
		const outputs = [copy(process.stdout, stdout, readerGone), copy(process.stderr, stderr, readerGone)];
		const exit = await process.exit;
		await Promise.all(outputs);
		return exit;
	} finally {
		stopResize?.();
		stdin?.unpipe(process.stdin);
		stdin?.pause();
	}
}

/** Resolves when all of `from` is written to `to`, or a write has failed. */
async function copy(from: Readable, to: Writable, readerGone: () => void): Promise<void> {
	const failed = () => {
		from.destroy();
		readerGone();
	};
	to.once("error", failed);
	from.pipe(to, { end: false });
	try {
		await finished(from);
		await new Promise<void>((resolve) => to.write("", () => resolve())); /* all of it is written */
	} catch {
		/* cut off by `failed` */
	} finally {
		to.off("error", failed);
	}
}
