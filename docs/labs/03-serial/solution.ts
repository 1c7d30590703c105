/*
 * Lab 3, solved: a serial port, as much of a 16550 as Linux's driver needs.
 */

/* Registers, by their offset from port 0x3f8. */
const DATA = 0; /* read: input; write: output; with DLAB the divisor's low byte */
const IER = 1; /* which interrupts are wanted; with DLAB the divisor's high byte */
const IIR = 2; /* why there is an interrupt */
const LCR = 3;
const LSR = 5;
const SCR = 7;

const IER_RECEIVE = 1;
const IER_TRANSMIT = 2;
const IIR_NONE = 1;
const IIR_TRANSMIT = 2;
const IIR_RECEIVE = 4;
const LCR_DLAB = 0x80;
const LSR_DATA_READY = 0x01;
const LSR_EMPTY = 0x60; /* THRE and TEMT */

export class SerialPort {
	readonly #output: (byte: number) => void;
	readonly #interrupt: (level: boolean) => void;
	readonly #registers = new Uint8Array(8);
	readonly #divisor = new Uint8Array(2);
	readonly #input: number[] = [];
	/* The transmitter became empty, and the driver does not know it yet. */
	#becameEmpty = false;

	constructor(output: (byte: number) => void, interrupt: (level: boolean) => void) {
		this.#output = output;
		this.#interrupt = interrupt;
	}

	/** A byte has come from the terminal. */
	receive(byte: number): void {
		this.#input.push(byte);
		this.#update();
	}

	read(offset: number): number {
		if (offset <= IER && this.#hasDivisor()) return this.#divisor[offset]!;
		if (offset === DATA) {
			const byte = this.#input.shift() ?? 0;
			this.#update();
			return byte;
		}
		if (offset === IIR) {
			const cause = this.#cause();
			if (cause === IIR_TRANSMIT) this.#becameEmpty = false;
			this.#update();
			return cause;
		}
		if (offset === LSR) return LSR_EMPTY | (this.#input.length > 0 ? LSR_DATA_READY : 0);
		return this.#registers[offset] ?? 0xff;
	}

	write(offset: number, value: number): void {
		if (offset <= IER && this.#hasDivisor()) {
			this.#divisor[offset] = value;
			return;
		}
		if (offset === DATA) {
			this.#output(value);
			this.#becameEmpty = true;
		} else if (offset === IER) {
			if ((value & ~this.#registers[IER]! & IER_TRANSMIT) !== 0) this.#becameEmpty = true;
			this.#registers[IER] = value & 0x0f;
		} else if (offset === LCR || offset === SCR || offset === 4) {
			this.#registers[offset] = value;
		}
		this.#update();
	}

	#hasDivisor(): boolean {
		return (this.#registers[LCR]! & LCR_DLAB) !== 0;
	}

	/** The cause with the highest priority. */
	#cause(): number {
		const enabled = this.#registers[IER]!;
		if ((enabled & IER_RECEIVE) !== 0 && this.#input.length > 0) return IIR_RECEIVE;
		if ((enabled & IER_TRANSMIT) !== 0 && this.#becameEmpty) return IIR_TRANSMIT;
		return IIR_NONE;
	}

	#update(): void {
		this.#interrupt(this.#cause() !== IIR_NONE);
	}
}
