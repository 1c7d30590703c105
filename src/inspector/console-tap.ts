/*
 * A console between the machine and its real one: it keeps the newest output for the inspector's page, and takes input
 * from there besides.
 *
 *     machine -- write --> ConsoleTap -- write --> the real console
 *             <- input --             <- input --
 *                            |  ^
 *                      the page's console
 */
import type { ConsoleBackend, ConsoleEvents } from "../backends/contract.ts";

const MOST_BYTES = 128 * 1024;
/** Of input that the guest does not take. */
const MOST_INPUT_BYTES = 16 * 1024;

export class ConsoleTap implements ConsoleBackend {
	readonly #console: ConsoleBackend;
	/** The newest output, as a ring. */
	readonly #ring = Buffer.alloc(MOST_BYTES);
	/** Bytes that were ever written. */
	#end = 0;
	#events: ConsoleEvents | undefined;
	#inputWanted = true;
	/** Input of the page that waits until the guest has taken the earlier one. */
	#waiting = Buffer.alloc(0);

	/** @param console the real one; it is closed with this one */
	constructor(console: ConsoleBackend) {
		this.#console = console;
	}

	get size(): ConsoleBackend["size"] {
		return this.#console.size;
	}

	/** Bytes that were ever written. */
	get end(): number {
		return this.#end;
	}

	/** Output from byte `position` on, or as much of it as is kept. */
	since(position: number): Buffer {
		const first = Math.min(Math.max(position, this.#end - MOST_BYTES, 0), this.#end);
		const at = first % MOST_BYTES;
		const length = this.#end - first;
		return Buffer.concat([
			this.#ring.subarray(at, at + length),
			this.#ring.subarray(0, Math.max(0, at + length - MOST_BYTES)),
		]);
	}

	/** Types `bytes`. Returns false when the guest has too much to read already. */
	type(bytes: Uint8Array): boolean {
		if (this.#waiting.length + bytes.length > MOST_INPUT_BYTES) return false;
		this.#waiting = Buffer.concat([this.#waiting, bytes]);
		this.#pass();
		return true;
	}

	start(events: ConsoleEvents): void {
		this.#events = events;
		this.#console.start?.(events);
		this.#pass();
	}

	write(bytes: Uint8Array): boolean {
		const kept = bytes.subarray(Math.max(0, bytes.length - MOST_BYTES));
		const at = (this.#end + bytes.length - kept.length) % MOST_BYTES;
		const first = kept.subarray(0, MOST_BYTES - at);
		this.#ring.set(first, at);
		this.#ring.set(kept.subarray(first.length), 0);
		this.#end += bytes.length;
		return this.#console.write(bytes);
	}

	setInputWanted(wanted: boolean): void {
		this.#inputWanted = wanted;
		this.#console.setInputWanted?.(wanted);
		if (wanted) this.#pass();
	}

	async close(): Promise<void> {
		this.#events = undefined;
		await this.#console.close();
	}

	#pass(): void {
		if (!this.#inputWanted || this.#events === undefined || this.#waiting.length === 0) return;
		const bytes = this.#waiting;
		this.#waiting = Buffer.alloc(0);
		this.#events.input(bytes);
	}
}
