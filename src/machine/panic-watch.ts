/*
 * Recognizes a panic of a kernel without pvpanic driver by its line on the serial console. Otherwise it looks like a
 * reset.
 */
import { printable } from "../base/log.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";

/**
 * Looks for the line "Kernel panic - not syncing: WHY" in the bytes of a serial console.
 */
export class PanicWatch implements Stateful {
	static readonly #MARK = "Kernel panic - not syncing: ";
	static readonly #LINE_CHARS = 512;
	readonly #onPanic: (why: string) => void;
	#line = "";
	/** Why the kernel panicked, once it has: printable text. */
	detail: string | undefined;

	/** @param onPanic called once, with the reason */
	constructor(onPanic: (why: string) => void = () => undefined) {
		this.#onPanic = onPanic;
	}

	/** Feeds the next bytes of console output. */
	write(bytes: Uint8Array): void {
		for (const byte of bytes) {
			if (byte !== 10) {
				if (this.#line.length < PanicWatch.#LINE_CHARS) this.#line += String.fromCharCode(byte);
				continue;
			}
			this.#inspect();
			this.#line = "";
		}
	}

	/** The line that has begun, and a panic that has been seen. */
	save(): SavedState {
		const { detail } = this;
		return { version: 1, line: this.#line, ...(detail === undefined ? {} : { detail }) };
	}

	restore(state: unknown): void {
		const reader = new StateReader("panic-watch", state).version(1);
		const line = reader.string("line", PanicWatch.#LINE_CHARS);
		/* Printable text is at most four times as long. */
		const detail = reader.has("detail") ? reader.string("detail", 4 * PanicWatch.#LINE_CHARS) : undefined;
		this.#line = line;
		this.detail = detail === undefined ? undefined : printable(detail);
	}

	#inspect(): void {
		const at = this.#line.indexOf(PanicWatch.#MARK);
		if (at < 0 || this.detail !== undefined) return;
		this.detail = printable(this.#line.slice(at + PanicWatch.#MARK.length).trimEnd());
		this.#onPanic(this.detail);
	}
}
