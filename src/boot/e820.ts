/*
 * The guest's memory map: a short list of address ranges with a type, as the PC's INT 15h AX=E820h call gives it (ACPI
 * 6.5 §15). It is in the zero page and in the PVH start info. Few entries boot faster, because the kernel walks through
 * each.
 */

/** Usable RAM. */
export const E820_RAM = 1;
/** Neither RAM nor free for devices. */
export const E820_RESERVED = 2;
/** ACPI tables. The kernel may use it as RAM once it has read them. */
export const E820_ACPI = 3;

/** One range, in bytes. */
export interface E820Entry {
	readonly start: number;
	readonly sizeBytes: number;
	readonly type: typeof E820_RAM | typeof E820_RESERVED | typeof E820_ACPI;
}
