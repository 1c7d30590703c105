/*
 * Finds the phases of a guest's boot in what its console shows. A Linux kernel has well-known lines, and with
 * printk.time each has the kernel's own clock in front. A quiet kernel shows none of them; then the steps of its drivers
 * tell how far it is (recorder.ts).
 */
import { readPrintk } from "../base/printk.ts";
import { KERNEL_LINES } from "../boot/kernel-lines.ts";

/** A phase of the boot, as an event has it. */
export interface BootPhase {
	readonly phase: string;
	readonly detail?: string;
	readonly kernelSeconds?: number;
}

/** A longer line cannot be one of a kernel, and a guest may write one without an end. */
const MAX_LINE = 1024;

export class BootWatch {
	readonly #found: (phase: BootPhase) => void;
	readonly #told = new Set<string>();
	#line = "";

	constructor(found: (phase: BootPhase) => void) {
		this.#found = found;
	}

	/** The console's next output. */
	write(text: string): void {
		const lines = text.split("\n");
		for (const [i, part] of lines.entries()) {
			if (this.#line.length < MAX_LINE) this.#line += part.slice(0, MAX_LINE);
			if (i === lines.length - 1) break;
			this.#ended(this.#line.trimEnd());
			this.#line = "";
		}
	}

	#ended(line: string): void {
		const stamped = readPrintk(line);
		const message = stamped?.message ?? line;
		for (const { phase, line: wanted, often = false } of KERNEL_LINES) {
			if (!wanted.test(message) || (this.#told.has(phase) && !often)) continue;
			this.#told.add(phase);
			const kernelSeconds = stamped === undefined ? {} : { kernelSeconds: stamped.seconds };
			this.#found({ phase, detail: message, ...kernelSeconds });
			return;
		}
	}
}
