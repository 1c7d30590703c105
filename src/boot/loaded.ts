/*
 * The kernel and the initrd in guest RAM. Boot parameters and CPU state are made from it.
 */

/** How to enter the kernel (cpu-state.ts): 32-bit PVH, or the 64-bit Linux boot protocol. */
export type BootProtocol = "pvh" | "linux64";

/** A kernel in guest RAM. */
export interface LoadedKernel {
	readonly format: "elf" | "bzImage";
	readonly protocol: BootProtocol;
	/** Guest-physical address of the first instruction. */
	readonly entry: number;
	/** The kernel and the memory that it needs to start. Nothing else may be in [start, end). */
	readonly start: number;
	readonly end: number;
	/** Longest command line in bytes, without the terminating NUL. */
	readonly cmdlineBytes: number;
	/** Highest address that the initrd may occupy. */
	readonly initrdMax: number;
	/** struct setup_header from 0x1f1 on, to be copied into the zero page; of a bzImage only. */
	readonly setupHeader?: Uint8Array;
	/** The version string, which begins as `uname -r`. Of a bzImage only. */
	readonly version?: string;
}

/** An initrd in guest RAM. */
export interface LoadedInitrd {
	readonly start: number;
	readonly sizeBytes: number;
}
