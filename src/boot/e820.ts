/*
 * The memory map as the guest is told it: a short list of address ranges with a type, in the words of the PC's INT 15h
 * AX=E820h call (ACPI 6.5 §15). The zero page and the PVH start info both carry it. Few entries boot faster: each costs
 * the kernel a walk.
 */

/** Usable RAM. */
export const E820_RAM = 1;
/** Holds ACPI tables; RAM once they are read. */
export const E820_ACPI = 3;

/** One range, in bytes. */
export interface E820Entry {
	readonly start: number;
	readonly sizeBytes: number;
	readonly type: typeof E820_RAM | typeof E820_ACPI;
}
