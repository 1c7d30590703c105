/*
 * Bits of the control registers in kvm_sregs, and an MSR, as AMD's manual (APM 2 §3.1) and Intel's name them.
 */

/** Protected mode. */
export const CR0_PE = 1n << 0n;
/** x87 instructions are there. */
export const CR0_ET = 1n << 4n;
/** x87 errors are exceptions. */
export const CR0_NE = 1n << 5n;
/** Paging. */
export const CR0_PG = 1n << 31n;
/** Pages of 4 MiB with 32-bit entries. */
export const CR4_PSE = 1n << 4n;
/** Page-table entries of 64 bits. */
export const CR4_PAE = 1n << 5n;
/** Five levels of page tables. */
export const CR4_LA57 = 1n << 12n;
/** Long mode is enabled. */
export const EFER_LME = 1n << 8n;
/** Long mode is active. */
export const EFER_LMA = 1n << 10n;
/** Page-table entries may forbid execution. */
export const EFER_NXE = 1n << 11n;
/** The MSR with the entry of 64-bit system calls (APM 2 §6.1.1). */
export const MSR_LSTAR = 0xc000_0082;
