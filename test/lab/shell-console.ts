/*
 * The serial console of a guest whose script reads commands (LOOP of guest-shell.ts), for programs that make the
 * machine themselves.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ConsoleBackend, ConsoleEvents } from "../../src/backends/contract.ts";

export class ShellConsole implements ConsoleBackend {
	/** All output so far. */
	text = "";
	#events: ConsoleEvents | undefined;
	#count = 0;

	start(events: ConsoleEvents): void {
		this.#events = events;
	}
	write(bytes: Uint8Array): boolean {
		this.text += Buffer.from(bytes).toString("latin1").replaceAll("\r", "");
		return true;
	}
	async close(): Promise<void> {
		/* Nothing was opened. */
	}

	/** Waits until the console shows `what`. @throws Error after three minutes: an emulated machine is slow */
	async shows(what: string | RegExp): Promise<void> {
		for (let i = 0; i < 1800; i++) {
			if (typeof what === "string" ? this.text.includes(what) : what.test(this.text)) return;
			await sleep(100);
		}
		throw new Error(`the guest has not shown ${what}: ${this.text.slice(-3000)}`);
	}

	/** Runs a command in the guest. @returns what it printed */
	async sh(command: string): Promise<string> {
		const mark = ++this.#count;
		const start = this.text.length;
		this.#events?.input(Buffer.from(`${command}; echo "=${mark}=$?="\n`));
		const end = new RegExp(`=${mark}=(\\d+)=\n`);
		await this.shows(end);
		return this.text.slice(start, end.exec(this.text)!.index).trim();
	}
}
