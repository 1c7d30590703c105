/*
 * Ctrl-A x on a raw terminal ends the machine, as with QEMU. The guest gets every key, Ctrl-C included.
 */

const CTRL_A = 1;

export class EscapeKey {
	readonly #onData: (chunk: Buffer) => void;
	#armed = false;

	/** Listens on stdin, besides its reader. */
	constructor(onEscape: () => void) {
		this.#onData = (chunk) => {
			for (const byte of chunk) {
				if (this.#armed && (byte === 0x78 || byte === 0x58)) onEscape();
				this.#armed = byte === CTRL_A;
			}
		};
		process.stdin.on("data", this.#onData);
	}

	close(): void {
		process.stdin.off("data", this.#onData);
	}
}
