/*
 * The streams of a task as containerd gives them: FIFOs by their paths, or a file or program that logs its output. Output is opened for both directions, so that
 * opening does not wait for a reader. Input has a writer of our own, so that it does not end before CloseIO says so; what
 * is in the FIFO then is still read.
 */
import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { ignore } from "../base/errors.ts";
import { outputTo } from "../host/output.ts";
import type { PayloadStdio } from "../oci/payload.ts";
import { isLogProgram, type Logged, startLogProgram } from "./log-program.ts";

export interface FifoPaths {
	stdin: string;
	stdout: string;
	stderr: string;
	terminal: boolean;
}

export type TerminalSize = NonNullable<PayloadStdio["size"]>;

/** A task's streams. */
export interface FifoStdio extends PayloadStdio {
	/** What its terminal begins with. */
	size: TerminalSize | undefined;
	/** Nothing more will be written to the input. */
	closeInput(): void;
}

const { O_APPEND, O_CREAT, O_RDONLY, O_WRONLY, O_RDWR, O_NONBLOCK } = constants;
const SIZE = { columns: 80, rows: 24 };

/**
 * Opens a task's streams.
 *
 * @param size of its terminal, if it has one
 * @throws what open(2) says, or why a program that logs cannot be started; nothing is open then
 */
export function fifoStdio(
	{ stdin, stdout, stderr, terminal }: FifoPaths,
	logged: Logged,
	size: TerminalSize = SIZE,
): FifoStdio {
	const opened: { destroy(): void }[] = [];
	const owns = <T extends { destroy(): void }>(stream: T): T => {
		opened.push(stream);
		return stream;
	};
	let writer: number | undefined;
	const closeInput = () => {
		if (writer !== undefined) closeSync(writer);
		writer = undefined;
	};
	const close = () => {
		closeInput();
		for (const stream of opened) stream.destroy();
	};
	try {
		const input = owns(stdin === "" ? Readable.from([]) : inputOf(stdin));
		if (stdin !== "") writer = openSync(stdin, O_WRONLY | O_NONBLOCK);
		const program = isLogProgram(stdout) ? startLogProgram(stdout, logged) : undefined;
		const output = owns(program?.stdout ?? outputOf(stdout));
		const errors = owns(program?.stderr ?? outputOf(terminal ? "" : stderr));
		return {
			stdio: { stdin: input, stdout: output, stderr: errors, onSignal: () => () => undefined },
			size: terminal ? size : undefined,
			closeInput,
			close,
		};
	} catch (error) {
		close();
		throw error;
	}
}

function inputOf(path: string): Readable {
	const input = new Socket({ fd: openSync(path, O_RDONLY | O_NONBLOCK), writable: false });
	input.on("error", ignore);
	return input;
}

/** @param path of a FIFO, or the URI of a file; nobody reads the output without one */
function outputOf(path: string): Writable {
	if (path === "") return new Writable({ write: (_chunk, _encoding, done) => done() });
	if (path.startsWith("file://")) return outputTo(openSync(fileURLToPath(path), O_WRONLY | O_APPEND | O_CREAT, 0o644));
	return outputTo(openSync(path, O_RDWR | O_NONBLOCK));
}
