/*
 * The walk from a virtual address to a guest-physical one, in the guest's own page tables (Intel SDM volume 3, chapter 5).
 * Each level is told, so that a reader can see where a translation ends. It reads memory and changes nothing: accessed and
 * dirty bits stay as they are.
 *
 *     CR3 -> PML5 -> PML4 -> PDPT -> PD -> PT -> page      5-level; 4-level begins at PML4
 *                    CR3 ->  PDPT -> PD -> PT -> page      PAE: 4 entries of 8 bytes in the PDPT
 *                            CR3  -> PD -> PT -> page      32-bit: entries of 4 bytes
 */
import type { GuestMemory } from "../base/guest-memory.ts";
import { CR0_PG, CR4_LA57, CR4_PAE, CR4_PSE, EFER_LMA, EFER_NXE } from "../kvm/control-registers.ts";

/** The registers of a vCPU that say how it translates, as in kvm_sregs. */
export interface PagingRegisters {
	readonly cr0: bigint;
	readonly cr3: bigint;
	readonly cr4: bigint;
	readonly efer: bigint;
}

/** "none": paging is off, and addresses are physical. */
export type PagingMode = "none" | "32-bit" | "PAE" | "4-level" | "5-level";
export type TableName = "PML5" | "PML4" | "PDPT" | "PD" | "PT";

/** One entry on the way. */
export interface WalkLevel {
	readonly table: TableName;
	/** Guest-physical address of the table. */
	readonly tableGpa: number;
	/** The entry's number in its table. */
	readonly index: number;
	/** Its value. */
	readonly entry: bigint;
	readonly present: boolean;
	readonly writable: boolean;
	readonly user: boolean;
	readonly executable: boolean;
	readonly accessed: boolean;
	readonly dirty: boolean;
	/** It maps a page itself. */
	readonly leaf: boolean;
}

export interface PageWalk {
	readonly mode: PagingMode;
	readonly address: bigint;
	/** From the root on. The last one is where the walk has ended. Empty without paging. */
	readonly levels: readonly WalkLevel[];
	/** Where the address is, undefined when it is not mapped. It need not be RAM. */
	readonly gpa: number | undefined;
	/** Of the page: 4 KiB to 1 GiB; how far the translation holds. */
	readonly pageBytes: number;
	/** Allowed at all levels. */
	readonly writable: boolean;
	readonly user: boolean;
	readonly executable: boolean;
	/** Why it is not mapped, in words. */
	readonly fault: string | undefined;
}

const P = 1n;
const RW = 1n << 1n;
const US = 1n << 2n;
const A = 1n << 5n;
const D = 1n << 6n;
const PS = 1n << 7n;
const XD = 1n << 63n;
/** Bits 51 to 12 of an entry. */
const FRAME = 0x000f_ffff_ffff_f000n;
const PAGE_BYTES = 4096;

/** A level of a mode: its table, the lowest bit of the address that its index takes, and how many bits. */
type Level = readonly [table: TableName, shift: bigint, bits: bigint];

const LONG: readonly Level[] = [
	["PML5", 48n, 9n],
	["PML4", 39n, 9n],
	["PDPT", 30n, 9n],
	["PD", 21n, 9n],
	["PT", 12n, 9n],
];
const LEVELS: Readonly<Record<Exclude<PagingMode, "none">, readonly Level[]>> = {
	"5-level": LONG,
	"4-level": LONG.slice(1),
	PAE: [["PDPT", 30n, 2n], ...LONG.slice(3)],
	"32-bit": [
		["PD", 22n, 10n],
		["PT", 12n, 10n],
	],
};

/** How a vCPU with these registers translates. */
export function pagingMode({ cr0, cr4, efer }: PagingRegisters): PagingMode {
	if ((cr0 & CR0_PG) === 0n) return "none";
	if ((cr4 & CR4_PAE) === 0n) return "32-bit";
	if ((efer & EFER_LMA) === 0n) return "PAE";
	return (cr4 & CR4_LA57) === 0n ? "4-level" : "5-level";
}

/** Translates `address`. Never throws, whatever the guest's tables hold. */
export function walkPages(memory: GuestMemory, registers: PagingRegisters, address: bigint): PageWalk {
	const mode = pagingMode(registers);
	const isLong = mode === "4-level" || mode === "5-level";
	const linear = BigInt.asUintN(64, address);
	const from = { mode, address: linear };
	if (!isLong && linear > 0xffff_ffffn) return unmapped(from, [], "it has more than 32 bits");
	if (mode === "none") {
		const gpa = Number(linear);
		const all = { writable: true, user: true, executable: true };
		return { ...from, levels: [], gpa, pageBytes: PAGE_BYTES, ...all, fault: undefined };
	}
	const width = mode === "5-level" ? 57 : 48;
	if (isLong && BigInt.asUintN(64, BigInt.asIntN(width, linear)) !== linear)
		return unmapped(from, [], `it is not canonical: bits 63 to ${width - 1} differ`);
	return walk(memory, registers, { mode, address: linear });
}

function walk(
	memory: GuestMemory,
	{ cr3, cr4, efer }: PagingRegisters,
	from: { mode: Exclude<PagingMode, "none">; address: bigint },
): PageWalk {
	const { mode, address } = from;
	const entryBytes = mode === "32-bit" ? 4 : 8;
	const levels: WalkLevel[] = [];
	let table = Number(mode === "PAE" ? cr3 & 0xffff_ffe0n : cr3 & (mode === "32-bit" ? 0xffff_f000n : FRAME));
	let rights = { writable: true, user: true, executable: true };
	for (const [name, shift, bits] of LEVELS[mode]) {
		const index = Number(BigInt.asUintN(Number(bits), address >> shift));
		const at = table + index * entryBytes;
		if (!memory.contains(at, entryBytes)) {
			const outside = `the ${name} at 0x${table.toString(16)} is not in RAM`;
			return unmapped(from, levels, outside);
		}
		const entry = readEntry(memory, at, entryBytes);
		/* Four entries of PAE have no rights of their own. */
		const isPaeRoot = mode === "PAE" && name === "PDPT";
		const hasSize = name === "PD" || (name === "PDPT" && !isPaeRoot);
		const large = hasSize && (entry & PS) !== 0n && (mode !== "32-bit" || (cr4 & CR4_PSE) !== 0n);
		const level: WalkLevel = {
			table: name,
			tableGpa: table,
			index,
			entry,
			present: (entry & P) !== 0n,
			writable: isPaeRoot || (entry & RW) !== 0n,
			user: isPaeRoot || (entry & US) !== 0n,
			executable: (efer & EFER_NXE) === 0n || (entry & XD) === 0n,
			accessed: (entry & A) !== 0n,
			dirty: (entry & D) !== 0n,
			leaf: large || name === "PT",
		};
		levels.push(level);
		if (!level.present) return unmapped(from, levels, `entry ${index} of the ${name} is not present`);
		rights = {
			writable: rights.writable && level.writable,
			user: rights.user && level.user,
			executable: rights.executable && level.executable,
		};
		if (!level.leaf) {
			table = Number(mode === "32-bit" ? entry & 0xffff_f000n : entry & FRAME);
			continue;
		}
		const pageBits = Number(shift);
		const offset = BigInt.asUintN(pageBits, address);
		const gpa = Number(frameOf(entry, pageBits, mode) + offset);
		return { ...from, levels, gpa, pageBytes: 2 ** pageBits, ...rights, fault: undefined };
	}
	return unmapped(from, levels, "its tables have no end");
}

/** Each entry is read once: the guest may change it meanwhile. */
function readEntry(memory: GuestMemory, at: number, bytes: number): bigint {
	const window = memory.find(at, bytes);
	if (window === undefined) return 0n;
	const offset = at - window.gpa;
	return bytes === 4 ? BigInt(window.view.getUint32(offset, true)) : window.view.getBigUint64(offset, true);
}

/** The address in an entry that maps a page of 2^`bits` bytes. A page of 4 MiB has bits 39 to 32 in its bits 20 to 13. */
function frameOf(entry: bigint, bits: number, mode: PagingMode): bigint {
	if (mode !== "32-bit") return (entry & FRAME & ~(2n ** BigInt(bits) - 1n)) as bigint;
	if (bits === 12) return entry & 0xffff_f000n;
	return (entry & 0xffc0_0000n) | (((entry >> 13n) & 0xffn) << 32n);
}

function unmapped(from: { mode: PagingMode; address: bigint }, levels: WalkLevel[], fault: string): PageWalk {
	const none = { writable: false, user: false, executable: false };
	return { ...from, levels, gpa: undefined, pageBytes: PAGE_BYTES, ...none, fault };
}
