/*
 * A console whose output somebody else sees, too.
 */
import type { ConsoleBackend, ConsoleEvents } from "./contract.ts";

export class WatchedConsole implements ConsoleBackend {
	readonly #console: ConsoleBackend;
	readonly #see: (bytes: Uint8Array) => void;

	/** @param console belongs to this one from now on */
	constructor(console: ConsoleBackend, see: (bytes: Uint8Array) => void) {
		this.#console = console;
		this.#see = see;
	}

	get size(): ConsoleBackend["size"] {
		return this.#console.size;
	}

	start(events: ConsoleEvents): void {
		this.#console.start?.(events);
	}

	write(bytes: Uint8Array): boolean {
		this.#see(bytes);
		return this.#console.write(bytes);
	}

	setInputWanted(wanted: boolean): void {
		this.#console.setInputWanted?.(wanted);
	}

	async close(): Promise<void> {
		await this.#console.close();
	}
}
