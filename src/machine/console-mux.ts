/*
 * One console for several devices: the serial port and virtio-console both write to it, and one of them gets its input.
 * Each has a line, which is a ConsoleBackend:
 *
 *     Serial --------- line --+
 *                             +-- ConsoleMux -- ConsoleBackend
 *     ConsoleDevice -- line --+
 */
import type { ConsoleBackend, ConsoleEvents } from "../backends/contract.ts";
import type { Enter } from "../base/enter.ts";

export class ConsoleMux {
	readonly #console: ConsoleBackend;
	readonly #enter: Enter;
	readonly #lines: Line[] = [];

	/**
	 * @param console lines do not close it: its owner does
	 * @param enter the way into the machine that the lines belong to
	 */
	constructor(console: ConsoleBackend, enter: Enter) {
		this.#console = console;
		this.#enter = enter;
	}

	/** A line for the device `name`. The last one has the input. */
	line(name: string): ConsoleBackend {
		const line = new Line(name, this.#console, () => this.#lines.at(-1) === line);
		this.#lines.push(line);
		return line;
	}

	/** Events come from now on. Call once, when all lines are started. */
	start(): void {
		const reader = this.#lines.at(-1);
		this.#console.start?.({
			input: (bytes) => {
				if (reader !== undefined) this.#enter(`${reader.name} input`, () => reader.events?.input(bytes));
			},
			writable: () => {
				for (const line of this.#lines) this.#enter(line.name, () => line.events?.writable());
			},
			resized: (columns, rows) => {
				for (const line of this.#lines) this.#enter(line.name, () => line.events?.resized(columns, rows));
			},
		});
	}
}

class Line implements ConsoleBackend {
	readonly name: string;
	events: ConsoleEvents | undefined;
	readonly #console: ConsoleBackend;
	readonly #hasInput: () => boolean;

	constructor(name: string, console: ConsoleBackend, hasInput: () => boolean) {
		this.name = name;
		this.#console = console;
		this.#hasInput = hasInput;
	}

	get size(): ConsoleBackend["size"] {
		return this.#console.size;
	}

	start(events: ConsoleEvents): void {
		this.events = events;
	}

	write(bytes: Uint8Array): boolean {
		return this.#console.write(bytes);
	}

	setInputWanted(wanted: boolean): void {
		if (this.#hasInput()) this.#console.setInputWanted?.(wanted);
	}

	async close(): Promise<void> {
		this.events = undefined;
	}
}
