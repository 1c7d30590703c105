/*
 * The lines of Linux' log by which its boot is followed, without their stamps (base/printk.ts), in the order in which
 * kernels print them. Not each kernel has all. A trace tells each as a phase (trace/boot-watch.ts), and --timings measures
 * up to some of them (machine/kernel-log.ts).
 */

/** A line that shows how far a kernel is. */
export interface KernelLine {
	/** What a trace calls it. */
	readonly phase: string;
	readonly line: RegExp;
	/** Each such line counts. Of any other only the first does. */
	readonly often?: true;
	/** The part of the boot that it ends, as --timings calls it. */
	readonly ends?: string;
}

export const KERNEL_LINES: readonly KernelLine[] = [
	{ phase: "kernel", line: /^Linux version / },
	{ phase: "command line", line: /^(?:Kernel c|C)ommand line: / },
	{ phase: "memory map", line: /^(?:e820|BIOS-provided physical RAM map|BIOS-e820)\b/ },
	{ phase: "ACPI tables", line: /^ACPI: RSDP / },
	{ phase: "memory", line: /^Memory: \d+K\/\d+K available/, ends: "kernel memory" },
	{ phase: "interrupts", line: /^NR_IRQS: / },
	{ phase: "clock", line: /^tsc: |^clocksource: / },
	{ phase: "CPUs", line: /^smp: Brought up |^smpboot: Total of /, ends: "kernel processors" },
	{ phase: "ACPI", line: /^ACPI: Interpreter enabled|^ACPI: bus type PCI registered/ },
	{ phase: "initrd", line: /^Trying to unpack rootfs|^Unpacking initramfs/ },
	{ phase: "serial port", line: /^Serial: 8250|ttyS0 at I\/O/ },
	{ phase: "driver", line: /^virtio_\w+ virtio\d+: /, often: true },
	{ phase: "network", line: /^NET: Registered PF_INET / },
	{ phase: "init memory freed", line: /^Freeing unused kernel /, ends: "kernel drivers" },
	{ phase: "root", line: /^VFS: Mounted root |^EXT4-fs \(\w+\): mounted |^(?:squashfs|erofs): .*mounted/ },
	{ phase: "init", line: /^Run \S+ as init process/, ends: "kernel init" },
	{ phase: "reboot", line: /^reboot: / },
	{ phase: "oops", line: /^BUG: |^Oops: |^general protection fault|^watchdog: BUG: |^Unable to handle /, often: true },
	{
		phase: "failure",
		line: /^VFS: Cannot open root device|^Failed to execute |^Initramfs unpacking failed/,
		often: true,
	},
	{ phase: "panic", line: /^Kernel panic - not syncing: / },
];
