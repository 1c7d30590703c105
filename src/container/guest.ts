/*
 * A machine as a container sees it: its agent's stream, and the last lines of its console.
 */
import type { Duplex } from "node:stream";
import { VSOCK_AGENT_PORT } from "../agent/protocol.ts";
import { FileConsole } from "../backends/console.ts";
import type { ConsoleBackend, ConsoleEvents } from "../backends/contract.ts";
import type { UnixVsock } from "../backends/unix-vsock.ts";
import type { Machine } from "../machine/machine.ts";
import type { GuestMachine } from "./running-machine.ts";

const TAIL_LINES = 15;
const TAIL_CHARACTERS = 8192;

export function guestOf(machine: Machine, console: TailConsole): GuestMachine {
	return {
		start: () => machine.start(),
		stop: () => machine.stop(),
		ended: machine.ended,
		agent: firstConnection(machine.vsock!, VSOCK_AGENT_PORT),
		consoleTail: () => console.tail(),
		begun: () => machine.workingSet?.record(),
	};
}

/** The first stream that the guest opens to `port`. Later ones are refused. */
export function firstConnection(vsock: Pick<UnixVsock, "listen">, port: number): Promise<Duplex> {
	return new Promise((resolve) => {
		const stop = vsock.listen(port, (stream) => {
			stop();
			resolve(stream);
		});
	});
}

/** Keeps the last lines of the console for messages. Writes the console to a file, too, if the caller wants one. */
export class TailConsole implements ConsoleBackend {
	readonly #file: FileConsole | undefined;
	#text = "";

	constructor(path: string | undefined) {
		this.#file = path === undefined ? undefined : new FileConsole(path);
	}

	start(events: ConsoleEvents): void {
		this.#file?.start(events);
	}

	write(bytes: Uint8Array): boolean {
		this.#text = (this.#text + Buffer.from(bytes).toString("latin1")).slice(-TAIL_CHARACTERS);
		return this.#file?.write(bytes) ?? true;
	}

	async close(): Promise<void> {
		await this.#file?.close();
	}

	/** Printable text only, because it is part of a message on a terminal. */
	tail(): string {
		const lines = this.#text
			.split(/\r?\n/)
			.map((line) => line.replace(/[^\t\x20-\x7e]/g, "").trimEnd())
			.filter((line) => line !== "");
		return lines.slice(-TAIL_LINES).join("\n");
	}
}
