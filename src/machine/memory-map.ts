/*
 * The guest-physical address space. RAM starts at 0 and leaves a hole below 4 GiB for devices; what does not fit below
 * the hole continues at 4 GiB:
 *
 *     0            0xa0000   1 MiB                 <= 3 GiB     0xd0000000      0xfec00000 ...       4 GiB
 *     |-- RAM -----| tables  |------- RAM ----------|  (nothing)  | virtio-mmio | IOAPIC LAPIC TSS | -- RAM --
 *
 * boot/addresses.ts says what is where below 1 MiB.
 */

import { UsageError } from "../base/errors.ts";
import { ACPI_ADDRESS, GENERATION_PAGE, HIGH_MEMORY_START, LOW_MEMORY_END } from "../boot/addresses.ts";
import { E820_ACPI, E820_RAM, E820_RESERVED, type E820Entry } from "../boot/e820.ts";
import type { RamRange } from "../host/ram.ts";

const MIB = 1 << 20;
/** RAM below 4 GiB ends here at the latest. */
export const LOW_RAM_LIMIT = 0xc0000000;
/** Where RAM continues. */
export const HIGH_RAM_START = 0x1_0000_0000;
/** First virtio-mmio slot. */
export const VIRTIO_MMIO_ADDRESS = 0xd0000000;
/** Bytes of address space per virtio-mmio slot. */
export const VIRTIO_MMIO_BYTES = 0x1000;
/** KVM_SET_IDENTITY_MAP_ADDR: one page, below the TSS. */
export const IDENTITY_MAP_ADDRESS = 0xfffbc000;
/** KVM_SET_TSS_ADDR: three pages. */
export const TSS_ADDRESS = 0xfffbd000;

/*
 * Pins of the 24-pin I/O APIC in the order in which slots take them. First those that no PC device ever had, last those
 * that a kernel without ACPI probes for (12 is the PS/2 mouse). Missing are 0 (timer), 1 (keyboard), 2 (cascade),
 * 3 and 4 (serial ports), 8 (clock), 9 (ACPI) and 13 (floating point).
 */
const SLOT_GSIS = [16, 17, 18, 19, 20, 21, 22, 23, 5, 10, 11, 6, 7, 14, 15, 12];

/** How many virtio-mmio devices a machine can have. */
export const VIRTIO_SLOTS = SLOT_GSIS.length;

/** Address range and interrupt of a virtio-mmio device. */
export interface VirtioSlot {
	readonly address: number;
	readonly sizeBytes: number;
	readonly gsi: number;
}

/** Slot `index`, 0 to VIRTIO_SLOTS - 1. @throws UsageError beyond */
export function virtioSlot(index: number): VirtioSlot {
	const gsi = SLOT_GSIS[index];
	if (gsi === undefined) {
		throw new UsageError(
			"ERR_TOO_MANY_DEVICES",
			`Cannot place virtio device number ${index + 1}: the machine has ${VIRTIO_SLOTS} slots`,
		);
	}
	return { address: VIRTIO_MMIO_ADDRESS + index * VIRTIO_MMIO_BYTES, sizeBytes: VIRTIO_MMIO_BYTES, gsi };
}

export interface MemoryMap {
	/** One KVM memory slot each: one range, or two when RAM does not fit below the hole. */
	readonly ram: readonly RamRange[];
	/** First byte after the RAM below 4 GiB: kernel and initrd lie below it. */
	readonly lowRamEnd: number;
	readonly e820: readonly E820Entry[];
}

/** The memory map of a machine with that much RAM, which completeConfig has found possible. */
export function memoryMap(memoryMiB: number): MemoryMap {
	const totalBytes = memoryMiB * MIB;
	const lowRamEnd = Math.min(totalBytes, LOW_RAM_LIMIT);
	const highBytes = totalBytes - lowRamEnd;
	const ram: RamRange[] = [{ gpa: 0, sizeBytes: lowRamEnd }];
	const e820: E820Entry[] = [
		{ start: 0, sizeBytes: LOW_MEMORY_END, type: E820_RAM },
		{ start: GENERATION_PAGE, sizeBytes: ACPI_ADDRESS - GENERATION_PAGE, type: E820_RESERVED },
		{ start: ACPI_ADDRESS, sizeBytes: HIGH_MEMORY_START - ACPI_ADDRESS, type: E820_ACPI },
		{ start: HIGH_MEMORY_START, sizeBytes: lowRamEnd - HIGH_MEMORY_START, type: E820_RAM },
	];
	if (highBytes > 0) {
		ram.push({ gpa: HIGH_RAM_START, sizeBytes: highBytes });
		e820.push({ start: HIGH_RAM_START, sizeBytes: highBytes, type: E820_RAM });
	}
	return { ram, lowRamEnd, e820 };
}
