/*
 * A host console as the backend of a virtio-console (virtio 1.2 §5.3). It takes the console's input for itself; the
 * console's owner closes it.
 */
import { type Enter, enterDirectly } from "../base/enter.ts";
import { type HostConsole, StdioConsole } from "./console.ts";
import type { ConsoleBackend, ConsoleEvents } from "./contract.ts";

export class ConsolePort implements ConsoleBackend {
	readonly #console: HostConsole;
	readonly #enter: Enter;
	#wanted = true;
	#onResize: (() => void) | undefined;

	/** @param enter the way into the machine that the port belongs to */
	constructor(console: HostConsole, enter: Enter = enterDirectly) {
		this.#console = console;
		this.#enter = enter;
	}

	/** The terminal's, when the console is on one. */
	get size(): { columns: number; rows: number } | undefined {
		const { isTTY, columns, rows } = process.stdout;
		return this.#console instanceof StdioConsole && isTTY ? { columns, rows } : undefined;
	}

	start(events: ConsoleEvents): void {
		this.#console.start?.((bytes) => {
			this.#enter("console input", () => events.input(bytes));
			return this.#wanted;
		});
		if (this.size === undefined) return;
		const resized = () => events.resized(process.stdout.columns, process.stdout.rows);
		this.#onResize = () => this.#enter("console", resized);
		process.stdout.on("resize", this.#onResize);
	}

	write(bytes: Uint8Array): boolean {
		/* A copy: the bytes are guest memory, and the console may keep what it is given. */
		this.#console.write(bytes.slice());
		return true;
	}

	setInputWanted(wanted: boolean): void {
		this.#wanted = wanted;
		if (wanted) this.#console.resume?.();
	}

	async close(): Promise<void> {
		if (this.#onResize !== undefined) process.stdout.off("resize", this.#onResize);
	}
}
