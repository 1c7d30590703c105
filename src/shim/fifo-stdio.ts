/*
 * The streams of a task as containerd gives them: FIFOs by their paths. Output is opened for both directions, so that
 * opening does not wait for a reader. Input has a writer of our own, so that it does not end before CloseIO says so; what
 * is in the FIFO then is still read.
 */
import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { Readable, Writable } from "node:stream";
import { ignore } from "../base/errors.ts";
import { outputTo } from "../host/output.ts";
import type { PayloadStdio } from "../oci/payload.ts";

export interface FifoPaths {
	stdin: string;
	stdout: string;
	stderr: string;
	terminal: boolean;
}

/** A task's streams. */
export interface FifoStdio extends PayloadStdio {
	/** Nothing more will be written to the input. */
	closeInput(): void;
}

const { O_RDONLY, O_WRONLY, O_RDWR, O_NONBLOCK } = constants;
const SIZE = { columns: 80, rows: 24 };

/** @throws what open(2) says */
export function fifoStdio({ stdin, stdout, stderr, terminal }: FifoPaths): FifoStdio {
	const input = stdin === "" ? undefined : new Socket({ fd: openSync(stdin, O_RDONLY | O_NONBLOCK), writable: false });
	let writer = stdin === "" ? undefined : openSync(stdin, O_WRONLY | O_NONBLOCK);
	const closeInput = () => {
		if (writer !== undefined) closeSync(writer);
		writer = undefined;
	};
	const outputs = [outputOf(stdout), outputOf(terminal ? "" : stderr)] as const;
	input?.on("error", ignore);
	return {
		stdio: {
			stdin: input ?? Readable.from([]),
			stdout: outputs[0],
			stderr: outputs[1],
			onSignal: () => () => undefined,
		},
		size: terminal ? SIZE : undefined,
		closeInput,
		close: () => {
			closeInput();
			input?.destroy();
			for (const output of outputs) output.destroy();
		},
	};
}

function outputOf(path: string): Writable {
	if (path !== "") return outputTo(openSync(path, O_RDWR | O_NONBLOCK));
	return new Writable({ write: (_chunk, _encoding, done) => done() });
}
