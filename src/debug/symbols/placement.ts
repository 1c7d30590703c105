/*
 * Where a kernel has placed itself. A bzImage moves by a random distance (KASLR: arch/x86/boot/compressed/kaslr.c), and its
 * symbols say where it is linked. Three things show the distance: the address of the system calls' entry, which each vCPU
 * has in an MSR; what a kernel prints when it panics; and how it was booted.
 */
import type { Symbols } from "./symbols.ts";

/** What is known of a machine. Numbers in text are those of its state. */
export interface PlacementSigns {
	/** MSR_LSTAR of its vCPUs. */
	readonly lstar: readonly bigint[];
	/** The kernel is an ELF file, which is loaded where it is linked. */
	readonly elf: boolean;
	readonly cmdline: string;
	/** What the kernel's console says after "Kernel Offset: ". */
	readonly printed: string | undefined;
}

export interface Placement {
	/** How far it has moved; undefined when that is not known. Then no address has a name. */
	readonly slide: bigint | undefined;
	/** In words, what shows it. */
	readonly because: string;
}

/** entry_SYSCALL_64 is in MSR_LSTAR from the boot of each CPU on (arch/x86/kernel/cpu/common.c). */
const ENTRY = "entry_SYSCALL_64";
/** The kernel is placed at multiples of CONFIG_PHYSICAL_ALIGN, which is no less. */
const ALIGNMENT = 2n << 20n;
/** KERNEL_IMAGE_SIZE */
const FARTHEST = 1n << 30n;
/** The kernel's image is above it; entry trampolines of old kernels are not. */
const IMAGE = 0xffff_ffff_8000_0000n;

/** How far a kernel with these symbols has moved. */
export function placementOf(symbols: Symbols, { lstar, elf, cmdline, printed }: PlacementSigns): Placement {
	const entry = symbols.find(ENTRY);
	const at = lstar.find((address) => address >= IMAGE);
	if (entry !== undefined && at !== undefined) {
		const slide = at - entry;
		if (isPossible(slide)) return { slide, because: `MSR_LSTAR is ${ENTRY}` };
		const because = `MSR_LSTAR is ${hex(at)}, and ${ENTRY} of these symbols is ${hex(entry)}: they are another kernel's`;
		return { slide: undefined, because };
	}
	const offset = printed === undefined ? undefined : /^(?:0x([0-9a-f]{1,16})\b|disabled)/.exec(printed);
	if (offset !== null && offset !== undefined) {
		const slide = BigInt(`0x${offset[1] ?? "0"}`);
		if (isPossible(slide)) return { slide, because: "the kernel has printed it" };
	}
	if (elf) return { slide: 0n, because: "an ELF kernel stays where it is linked" };
	if (/(?:^|\s)nokaslr(?:\s|$)/.test(cmdline)) return { slide: 0n, because: "its command line has nokaslr" };
	return { slide: undefined, because: "it is not known where this kernel has placed itself" };
}

function isPossible(slide: bigint): boolean {
	return slide > -FARTHEST && slide < FARTHEST && slide % ALIGNMENT === 0n;
}

function hex(value: bigint): string {
	return `0x${value.toString(16)}`;
}
