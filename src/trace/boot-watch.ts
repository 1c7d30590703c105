/*
 * Finds the phases of a guest's boot in what its console shows. A Linux kernel has well-known lines, and with
 * printk.time each has the kernel's own clock in front. A quiet kernel shows none of them; then the steps of its drivers
 * tell how far it is (recorder.ts).
 */
import { readPrintk } from "../base/printk.ts";

/** A phase of the boot, as an event has it. */
export interface BootPhase {
	readonly phase: string;
	readonly detail?: string;
	readonly kernelSeconds?: number;
}

/** Lines of a kernel by the phase that they show; each is told once, unless `often` says otherwise. */
const PHASES: readonly { readonly phase: string; readonly line: RegExp; readonly often?: boolean }[] = [
	{ phase: "kernel", line: /^Linux version / },
	{ phase: "command line", line: /^(?:Kernel c|C)ommand line: / },
	{ phase: "memory map", line: /^(?:e820|BIOS-provided physical RAM map|BIOS-e820)\b/ },
	{ phase: "ACPI tables", line: /^ACPI: RSDP / },
	{ phase: "memory", line: /^Memory: / },
	{ phase: "interrupts", line: /^NR_IRQS: / },
	{ phase: "clock", line: /^tsc: |^clocksource: / },
	{ phase: "CPUs", line: /^smp: Brought up |^smpboot: Total of / },
	{ phase: "ACPI", line: /^ACPI: Interpreter enabled|^ACPI: bus type PCI registered/ },
	{ phase: "initrd", line: /^Trying to unpack rootfs|^Unpacking initramfs/ },
	{ phase: "serial port", line: /^Serial: 8250|ttyS0 at I\/O/ },
	{ phase: "driver", line: /^virtio_\w+ virtio\d+: /, often: true },
	{ phase: "network", line: /^NET: Registered PF_INET / },
	{ phase: "init memory freed", line: /^Freeing unused kernel / },
	{ phase: "root", line: /^VFS: Mounted root |^EXT4-fs \(\w+\): mounted |^(?:squashfs|erofs): .*mounted/ },
	{ phase: "init", line: /^Run \S+ as init process/ },
	{ phase: "reboot", line: /^reboot: / },
	{ phase: "oops", line: /^BUG: |^Oops: |^general protection fault|^watchdog: BUG: |^Unable to handle /, often: true },
	{
		phase: "failure",
		line: /^VFS: Cannot open root device|^Failed to execute |^Initramfs unpacking failed/,
		often: true,
	},
	{ phase: "panic", line: /^Kernel panic - not syncing: / },
];

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
		for (const { phase, line: wanted, often = false } of PHASES) {
			if (!wanted.test(message) || (this.#told.has(phase) && !often)) continue;
			this.#told.add(phase);
			const kernelSeconds = stamped === undefined ? {} : { kernelSeconds: stamped.seconds };
			this.#found({ phase, detail: message, ...kernelSeconds });
			return;
		}
	}
}
