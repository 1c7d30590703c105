/*
 * Lab 3: a serial port, as much of a 16550 as Linux's driver needs. Check it with
 *
 *     tsvmm learn check 3
 */

/* Registers, by their offset from port 0x3f8. */
const DATA = 0; /* read: input; write: output; with DLAB the divisor's low byte */
/* 1: IER, which interrupts are wanted; with DLAB the divisor's high byte. 2: IIR, why there is one. 3: LCR. */
const LSR = 5; /* line status */
/* 7: SCR, a byte of the driver's own. */

export class SerialPort {
	readonly #output: (byte: number) => void;
	readonly #interrupt: (level: boolean) => void;

	/**
	 * @param output takes what the guest prints, byte by byte
	 * @param interrupt sets the level of the port's interrupt line
	 */
	constructor(output: (byte: number) => void, interrupt: (level: boolean) => void) {
		this.#output = output;
		this.#interrupt = interrupt;
	}

	/** A byte has come from the terminal. */
	receive(byte: number): void {
		/* 3. Keep it for the driver. 4. Raise the line, if the driver wants that. */
		void byte;
		this.#interrupt(false);
	}

	/** The guest reads the register at `offset`, 0 to 7. */
	read(offset: number): number {
		if (offset === LSR) return 0; /* 1. What says that the transmitter is empty? */
		return 0;
	}

	/** The guest writes it. */
	write(offset: number, value: number): void {
		if (offset === DATA) this.#output(value); /* 2. Always? */
	}
}
