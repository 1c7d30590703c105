/*
 * The 16550A UART at COM1, for the kernel's 8250 driver. Bytes that are written in one turn of the event loop go to
 * `onOutput` together. The transmitter is always empty, because a byte is taken when it is written. So the line status
 * changes only with input, and the native run loop can answer its reads from `lsrWord`. Writes to offset 0 may be
 * posted: they arrive late but in order. An access that needs their effect comes through `read`, and the run loop
 * delivers posted writes first. Registers: TI PC16550D data sheet, §8.
 *
 * Deviation: input is invisible until the driver enables its receive interrupt. Linux drops earlier input when it opens
 * the port, and a script that is piped into the console would be lost.
 */
import type { BusDevice } from "../base/bus.ts";
import { type Enter, enterDirectly } from "../base/enter.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";

/** An interrupt line, level by level. */
export interface InterruptLine {
	raise(): void;
	lower(): void;
}

/* Offsets, with LCR.DLAB clear. */
const RBR_THR = 0;
const IER = 1;
const IIR_FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

const IER_RDI = 1;
const IER_THRI = 2;
const IER_MASK = 0x0f;
const IIR_NO_INT = 1;
const IIR_THRI = 2;
const IIR_RDI = 4;
const IIR_RX_TIMEOUT = 0x0c;
const IIR_FIFO_ENABLED = 0xc0;
const FCR_ENABLE = 1;
const FCR_CLEAR_RCVR = 2;
const LCR_DLAB = 0x80;
const LSR_DR = 0x01;
const LSR_THRE_TEMT = 0x60;
const MCR_MASK = 0x1f;
const MCR_LOOP = 0x10;
const MSR_CTS = 0x10;
const MSR_DSR = 0x20;
const MSR_RI = 0x40;
const MSR_DCD = 0x80;

const FIFO_BYTES = 16;
const TRIGGER_BYTES = [1, 4, 8, 14];
const OUTPUT_BYTES = 4096;
/* `input` asks its caller to pause above HIGH and to resume below LOW. */
const HIGH_WATER_BYTES = 4096;
const LOW_WATER_BYTES = 1024;
/* The most input in a saved state. A console that does not pause may have sent more than the high water. */
const MAX_SAVED_INPUT_BYTES = 1 << 24;

/** The connections of a serial port. */
export interface SerialOptions {
	readonly line: InterruptLine;
	/** Takes output; the bytes are valid during the call only. It must not write to the port. */
	readonly onOutput: (bytes: Uint8Array) => void;
	/** `input` may be called again after it returned false. */
	readonly onDrain?: () => void;
	/** The way into the machine, for output that leaves at the end of a turn. */
	readonly enter?: Enter;
	/** Where the line status is kept for the native run loop; a new word when missing. */
	readonly lsrWord?: Int32Array;
}

export class Serial implements BusDevice, Stateful {
	readonly name = "serial";
	/** Element 0 is the LSR as a read would give it. */
	readonly lsrWord: Int32Array;
	readonly #options: SerialOptions;
	readonly #enter: Enter;
	readonly #flush = () => this.flush();
	#ier = 0;
	#fcr = 0;
	#lcr = 3;
	#mcr = 8;
	#scr = 0;
	#divisor = 12;
	/* THR became empty, and the driver does not know it yet. */
	#thrPending = false;
	#raised = false;
	/* Bytes that were sent in loopback. */
	readonly #looped: number[] = [];
	#input: number[] = [];
	#inputAt = 0;
	#paused = false;
	readonly #output = new Uint8Array(OUTPUT_BYTES);
	#outputBytes = 0;
	#flushQueued = false;

	constructor(options: SerialOptions) {
		this.#options = options;
		this.#enter = options.enter ?? enterDirectly;
		this.lsrWord = options.lsrWord ?? new Int32Array(1);
		this.#update();
	}

	/** Bytes of input that the guest has not read. */
	get inputBytes(): number {
		return this.#input.length - this.#inputAt;
	}

	/**
	 * Feeds the guest. All bytes are taken.
	 *
	 * @returns false when the caller must pause until `onDrain`
	 */
	input(bytes: Uint8Array): boolean {
		for (const byte of bytes) this.#input.push(byte);
		this.#update();
		if (this.inputBytes > HIGH_WATER_BYTES) this.#paused = true;
		return !this.#paused;
	}

	/** Passes collected output on now, and not at the end of the current turn. */
	flush(): void {
		if (this.#outputBytes === 0) return;
		const bytes = this.#output.subarray(0, this.#outputBytes);
		this.#outputBytes = 0;
		this.#options.onOutput(bytes);
	}

	read(offset: number, _size: number): number {
		const dlab = (this.#lcr & LCR_DLAB) !== 0;
		switch (offset) {
			case RBR_THR:
				return dlab ? this.#divisor & 0xff : this.#receive();
			case IER:
				return dlab ? this.#divisor >> 8 : this.#ier;
			case IIR_FCR:
				return this.#identify();
			case LCR:
				return this.#lcr;
			case MCR:
				return this.#mcr;
			case LSR:
				return this.#lineStatus();
			case MSR:
				return this.#modemStatus();
			case SCR:
				return this.#scr;
			default:
				return 0xff;
		}
	}

	write(offset: number, _size: number, value: number): void {
		const byte = value & 0xff;
		const dlab = (this.#lcr & LCR_DLAB) !== 0;
		switch (offset) {
			case RBR_THR:
				if (dlab) this.#divisor = (this.#divisor & 0xff00) | byte;
				else this.#transmit(byte);
				break;
			case IER:
				if (dlab) this.#divisor = (this.#divisor & 0xff) | (byte << 8);
				else this.#enable(byte & IER_MASK);
				break;
			case IIR_FCR:
				this.#controlFifo(byte);
				break;
			case LCR:
				this.#lcr = byte;
				break;
			case MCR:
				this.#mcr = byte & MCR_MASK;
				this.#looped.length = 0;
				this.#update();
				break;
			case SCR:
				this.#scr = byte;
				break;
		}
	}

	/**
	 * The registers, the input that the guest has not read, and the output that was not passed on (none after a `flush`).
	 */
	save(): SavedState {
		return {
			version: 1,
			ier: this.#ier,
			fcr: this.#fcr,
			lcr: this.#lcr,
			mcr: this.#mcr,
			scr: this.#scr,
			divisor: this.#divisor,
			thrPending: this.#thrPending,
			looped: Uint8Array.from(this.#looped),
			input: Uint8Array.from(this.#input.slice(this.#inputAt)),
			output: this.#output.slice(0, this.#outputBytes),
		};
	}

	/** Raises a pending interrupt again. */
	restore(state: unknown): void {
		const reader = new StateReader(this.name, state).version(1);
		const ier = reader.integer("ier", 0, IER_MASK);
		const fcr = reader.u8("fcr");
		const lcr = reader.u8("lcr");
		const mcr = reader.integer("mcr", 0, MCR_MASK);
		const scr = reader.u8("scr");
		const divisor = reader.u16("divisor");
		const thrPending = reader.boolean("thrPending");
		const looped = reader.bytes("looped", 0, FIFO_BYTES);
		const input = reader.bytes("input", 0, MAX_SAVED_INPUT_BYTES);
		const output = reader.bytes("output", 0, OUTPUT_BYTES - 1);
		if (fcr !== 0 && (fcr & FCR_ENABLE) === 0) throw reader.refuse("its FIFO has settings and is off");
		this.#ier = ier;
		this.#fcr = fcr;
		this.#lcr = lcr;
		this.#mcr = mcr;
		this.#scr = scr;
		this.#divisor = divisor;
		this.#thrPending = thrPending;
		this.#looped.push(...looped);
		this.#input = Array.from(input);
		this.#output.set(output);
		this.#outputBytes = output.length;
		if (output.length > 0) this.#flushSoon();
		this.#update();
	}

	#enable(ier: number): void {
		const risen = ier & ~this.#ier;
		this.#ier = ier;
		/* The transmitter is always empty, so enabling its interrupt raises one at once. */
		if ((risen & IER_THRI) !== 0) this.#thrPending = true;
		this.#update();
	}

	#controlFifo(fcr: number): void {
		this.#fcr = (fcr & FCR_ENABLE) !== 0 ? fcr : 0;
		if ((fcr & FCR_CLEAR_RCVR) !== 0) {
			if ((this.#mcr & MCR_LOOP) === 0) this.#drop(Math.min(FIFO_BYTES, this.#readable()));
			this.#looped.length = 0;
		}
		this.#update();
	}

	#transmit(byte: number): void {
		if ((this.#mcr & MCR_LOOP) !== 0) {
			if (this.#looped.length < FIFO_BYTES) this.#looped.push(byte);
		} else {
			this.#output[this.#outputBytes++] = byte;
			if (this.#outputBytes === OUTPUT_BYTES) this.flush();
			this.#flushSoon();
		}
		this.#thrPending = true;
		this.#update();
	}

	#flushSoon(): void {
		if (this.#flushQueued) return;
		this.#flushQueued = true;
		queueMicrotask(() => {
			this.#flushQueued = false;
			this.#enter(this.name, this.#flush);
		});
	}

	#receive(): number {
		let byte = this.#looped.shift();
		if (byte === undefined && this.#readable() > 0) {
			byte = this.#input[this.#inputAt]!;
			this.#drop(1);
		}
		this.#update();
		return byte ?? 0;
	}

	#drop(count: number): void {
		this.#inputAt += count;
		if (this.#inputAt === this.#input.length || this.#inputAt >= HIGH_WATER_BYTES) {
			this.#input = this.#input.slice(this.#inputAt);
			this.#inputAt = 0;
		}
		if (this.#paused && this.inputBytes <= LOW_WATER_BYTES) {
			this.#paused = false;
			this.#options.onDrain?.();
		}
	}

	/** Bytes that the guest may read now. */
	#readable(): number {
		if ((this.#mcr & MCR_LOOP) !== 0) return this.#looped.length;
		return (this.#ier & IER_RDI) !== 0 ? this.inputBytes : 0;
	}

	/** The interrupt with the highest priority. Reading the transmitter's acknowledges it. */
	#identify(): number {
		const fifo = (this.#fcr & FCR_ENABLE) !== 0 ? IIR_FIFO_ENABLED : 0;
		const source = this.#source();
		if (source === IIR_THRI) {
			this.#thrPending = false;
			this.#update();
		}
		return fifo | source;
	}

	#source(): number {
		const readable = this.#readable();
		if ((this.#ier & IER_RDI) !== 0 && readable > 0) {
			const trigger = (this.#fcr & FCR_ENABLE) !== 0 ? TRIGGER_BYTES[this.#fcr >> 6]! : 1;
			return readable >= trigger ? IIR_RDI : IIR_RX_TIMEOUT;
		}
		if ((this.#ier & IER_THRI) !== 0 && this.#thrPending) return IIR_THRI;
		return IIR_NO_INT;
	}

	#lineStatus(): number {
		return LSR_THRE_TEMT | (this.#readable() > 0 ? LSR_DR : 0);
	}

	/**
	 * In loopback the modem outputs DTR, RTS, OUT1, OUT2 become the inputs DSR, CTS, RI, DCD. Otherwise the peer is
	 * always ready.
	 */
	#modemStatus(): number {
		if ((this.#mcr & MCR_LOOP) === 0) return MSR_CTS | MSR_DSR | MSR_DCD;
		const mcr = this.#mcr;
		return (
			((mcr & 1) !== 0 ? MSR_DSR : 0) |
			((mcr & 2) !== 0 ? MSR_CTS : 0) |
			((mcr & 4) !== 0 ? MSR_RI : 0) |
			((mcr & 8) !== 0 ? MSR_DCD : 0)
		);
	}

	/** Updates the interrupt line and the shadow of the LSR. */
	#update(): void {
		Atomics.store(this.lsrWord, 0, this.#lineStatus());
		const wanted = this.#source() !== IIR_NO_INT;
		if (wanted === this.#raised) return;
		this.#raised = wanted;
		if (wanted) this.#options.line.raise();
		else this.#options.line.lower();
	}
}
