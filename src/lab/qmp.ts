/*
 * QMP, QEMU's control protocol. Each line is a JSON object. QEMU sends a greeting, then answers the commands in order;
 * events may come between the answers. Only what the lab needs.
 */
import { createInterface } from "node:readline";
import type { Duplex } from "node:stream";
import { HostError } from "../base/errors.ts";

interface Reply {
	return?: unknown;
	error?: { class: string; desc: string };
	event?: string;
}

interface Waiting {
	command: string;
	resolve: (value: unknown) => void;
	reject: (error: Error) => void;
}

export class Qmp {
	readonly #stream: Duplex;
	readonly #waiting: Waiting[] = [];
	#closed = false;

	/** @param stream the other end of QEMU's `-mon mode=control` character device; Qmp closes it */
	constructor(stream: Duplex) {
		this.#stream = stream;
		stream.on("error", () => this.#close());
		stream.on("close", () => this.#close());
		/* readline repeats the errors of its input, which are handled above. */
		const lines = createInterface({ input: stream });
		lines.on("line", (line) => this.#take(line));
		(lines as NodeJS.EventEmitter).on("error", () => undefined);
	}

	/**
	 * Runs a QMP command.
	 *
	 * @returns what QEMU answers
	 * @throws HostError ERR_LAB_QEMU when QEMU refuses or ends
	 */
	execute(command: string, args: object = {}): Promise<unknown> {
		return new Promise((resolve, reject) => {
			if (this.#closed) {
				reject(gone(command));
				return;
			}
			this.#waiting.push({ command, resolve, reject });
			this.#stream.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
		});
	}

	destroy(): void {
		this.#stream.destroy();
	}

	#take(line: string): void {
		const reply = JSON.parse(line) as Reply;
		const isAnswer = reply.return !== undefined || reply.error !== undefined;
		if (!isAnswer) return;
		const waiting = this.#waiting.shift();
		if (waiting === undefined) return;
		if (reply.error === undefined) waiting.resolve(reply.return);
		else waiting.reject(new HostError("ERR_LAB_QEMU", `Cannot ${waiting.command} in QEMU: ${reply.error.desc}`));
	}

	#close(): void {
		this.#closed = true;
		for (const waiting of this.#waiting.splice(0)) waiting.reject(gone(waiting.command));
	}
}

function gone(command: string): HostError {
	return new HostError("ERR_LAB_QEMU", `Cannot ${command} in QEMU: it has ended`);
}
