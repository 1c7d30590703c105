/*
 * The kernel command line: the machine's parameters, then the user's, which win if a parameter is given twice. Without
 * ACPI the kernel finds virtio-mmio devices by it (virtio 1.2 §4.2.2, virtio_mmio.device=).
 */
import { UsageError } from "../base/errors.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import { CMDLINE_ADDRESS, LOW_MEMORY_END } from "./addresses.ts";

/** A virtio-mmio device as the kernel must find it. */
export interface MmioDevice {
	readonly address: number;
	readonly sizeBytes: number;
	readonly gsi: number;
}

/**
 * Joins the parts of a command line with single spaces. Skips empty and missing parts.
 *
 * @throws UsageError ERR_CMDLINE when a part holds anything but printable ASCII
 */
export function composeCmdline(...parts: (string | undefined)[]): string {
	const given = parts.map((part) => part?.trim() ?? "").filter((part) => part !== "");
	for (const part of given) {
		const bad = /[^ -~]/u.exec(part);
		if (bad === null) continue;
		throw new UsageError(
			"ERR_CMDLINE",
			`Cannot use the kernel command line: character ${JSON.stringify(bad[0])} at position ${bad.index + 1} is not printable ASCII`,
		);
	}
	return given.join(" ");
}

/** "virtio_mmio.device=4K@0xd0000000:5 ..." for kernels that run without ACPI. */
export function virtioMmioParameters(devices: readonly MmioDevice[]): string {
	return devices.map((d) => `virtio_mmio.device=${d.sizeBytes / 1024}K@0x${d.address.toString(16)}:${d.gsi}`).join(" ");
}

/**
 * True when the last `acpi=` parameter of a command line switches ACPI off.
 */
export function acpiDisabled(cmdline: string): boolean {
	let value = "";
	for (const word of cmdline.split(/\s+/)) {
		if (word.startsWith("acpi=")) value = word.slice(5);
	}
	return value === "off";
}

/**
 * Stores the command line in guest memory, at the address that the boot parameters name.
 *
 * @param limitBytes the kernel's own limit, without the NUL
 * @throws UsageError ERR_CMDLINE_TOO_LONG
 */
export function writeCmdline(memory: GuestMemory, cmdline: string, limitBytes: number): void {
	const limit = Math.min(limitBytes, LOW_MEMORY_END - CMDLINE_ADDRESS - 1);
	if (cmdline.length > limit) {
		throw new UsageError(
			"ERR_CMDLINE_TOO_LONG",
			`Cannot use the kernel command line: it has ${cmdline.length} bytes, the kernel takes ${limit}`,
		);
	}
	memory.write(CMDLINE_ADDRESS, Buffer.from(`${cmdline}\0`, "latin1"));
}
