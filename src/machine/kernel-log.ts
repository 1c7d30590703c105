/*
 * The phases of Linux' boot, by the stamps of its own messages: on its console, line by line as they come (ConsoleTimes), or
 * all at once as dmesg has them (kernelMarks).
 *
 *     [    0.123456] Memory: 94320K/131072K available (...)     seconds of the kernel's clock
 *
 * All of it is the guest's word: it changes nothing but the times that are told.
 */
import { type PrintkLine, readPrintk } from "../base/printk.ts";
import type { Mark } from "../base/timeline.ts";
import { KERNEL_LINES } from "../boot/kernel-lines.ts";

/** Messages that end a part of the boot, in the order in which kernels print them. */
const LANDMARKS = KERNEL_LINES.flatMap(({ ends, line }) => (ends === undefined ? [] : [{ ends, line }]));
/** What may become a stamp when more of the line has come. */
const STAMP_BEGUN = /^\[ *\d{0,9}\.?\d{0,6}\]?$/;
/** No more of a line is looked at. */
const LINE_CHARACTERS = 512;
/** So much of a console is looked at when no kernel says that it runs an init. */
const CONSOLE_CHARACTERS = 1 << 20;

/** Moments on `clockMs`. */
export interface GuestClock {
	/** When the kernel's clock was zero. */
	readonly zeroMs: number;
	/** When the guest began to run: nothing of it is told to have been before. */
	readonly startMs: number;
}

/** Finds the landmarks, each once and in their order. */
class Landmarks {
	readonly found: Mark[] = [];
	#next = 0;

	get isComplete(): boolean {
		return this.#next === LANDMARKS.length;
	}

	/** @returns whether it is one */
	see({ seconds, message }: PrintkLine): boolean {
		const index = LANDMARKS.findIndex(({ line }, i) => i >= this.#next && line.test(message));
		if (index < 0) return false;
		this.#next = index + 1;
		this.found.push({ name: LANDMARKS[index]!.ends, atMs: seconds * 1000 });
		return true;
	}

	/** Before the kernel's clock is zero, KVM and the kernel's first instructions run. */
	marks({ zeroMs, startMs }: GuestClock): Mark[] {
		const at = (ms: number) => Math.max(startMs, zeroMs + ms);
		return [{ name: "kernel entry", atMs: at(0) }, ...this.found.map(({ name, atMs }) => ({ name, atMs: at(atMs) }))];
	}
}

/**
 * The phases of a kernel's boot.
 *
 * @param log as dmesg prints it
 */
export function kernelMarks(log: string, clock: GuestClock): Mark[] {
	const landmarks = new Landmarks();
	for (const line of log.split("\n")) {
		const stamped = readPrintk(line.slice(0, LINE_CHARACTERS));
		if (stamped !== undefined) landmarks.see(stamped);
	}
	return landmarks.marks(clock);
}

/** The stamp of the last message of a log; undefined when it has none. */
export function lastStampMs(log: string): number | undefined {
	const lines = log.trimEnd().split("\n");
	const line = readPrintk(lines.at(-1)!.slice(0, LINE_CHARACTERS));
	return line === undefined ? undefined : line.seconds * 1000;
}

/** Times of what a guest's console shows: the kernel's phases, and the first byte that is not the kernel's. */
export class ConsoleTimes {
	readonly #landmarks = new Landmarks();
	#line = "";
	#lineBeganMs = 0;
	#characters = 0;
	/** The least that any line says: it came as soon as it was printed. */
	#zeroMs = Number.POSITIVE_INFINITY;
	#firstMs: number | undefined;

	/** @param nowMs when these bytes have come */
	write(bytes: Uint8Array, nowMs: number): void {
		if (this.#isOver()) return;
		this.#characters += bytes.length;
		let rest = Buffer.from(bytes).toString("latin1");
		for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
			this.#extend(rest.slice(0, end), nowMs);
			this.#whole(this.#line.replace(/\r$/, ""), nowMs);
			this.#line = "";
			rest = rest.slice(end + 1);
		}
		if (rest === "") return;
		this.#extend(rest, nowMs);
		if (!STAMP_BEGUN.test(this.#line) && readPrintk(this.#line) === undefined) this.#firstMs ??= this.#lineBeganMs;
	}

	/**
	 * The kernel's phases, and "first byte". Nothing, when the console has shown nothing.
	 *
	 * @param startMs as of GuestClock
	 */
	marks(startMs: number): Mark[] {
		const zeroMs = this.#zeroMs;
		const kernel = zeroMs === Number.POSITIVE_INFINITY ? [] : this.#landmarks.marks({ zeroMs, startMs });
		return [...kernel, ...(this.#firstMs === undefined ? [] : [{ name: "first byte", atMs: this.#firstMs }])];
	}

	#isOver(): boolean {
		return this.#firstMs !== undefined && (this.#landmarks.isComplete || this.#characters > CONSOLE_CHARACTERS);
	}

	#extend(text: string, nowMs: number): void {
		if (this.#line === "") this.#lineBeganMs = nowMs;
		this.#line = (this.#line + text).slice(0, LINE_CHARACTERS);
	}

	#whole(line: string, nowMs: number): void {
		const stamped = readPrintk(line);
		if (stamped === undefined) {
			this.#firstMs ??= this.#lineBeganMs;
			return;
		}
		this.#zeroMs = Math.min(this.#zeroMs, nowMs - stamped.seconds * 1000);
		/* What came before was a loader's, or an early console's. */
		if (!this.#landmarks.isComplete && this.#landmarks.see(stamped)) this.#firstMs = undefined;
	}
}
