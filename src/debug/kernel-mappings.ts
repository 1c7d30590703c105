/*
 * What the upper half of a guest's address space maps, as ranges: in Linux the kernel, its direct mapping of RAM, and what it
 * has allocated (Documentation/arch/x86/x86_64/mm.rst). The tables are the guest's: a hostile one could have them refer to one
 * another without end, so only so many are looked at.
 */
import type { GuestMemory } from "../base/guest-memory.ts";
import { u64 } from "../base/u64.ts";
import { type PagingRegisters, pagingMode } from "./page-walk.ts";

/** A range that is mapped to RAM in one piece. All are multiples of 4096. */
export interface Mapping {
	readonly address: bigint;
	readonly gpa: number;
	readonly bytes: number;
}

/** Of a 64 GiB guest not a hundredth. */
const MAX_TABLES = 8192;
/** An ELF file has at most 65534 segments (PN_XNUM). */
const MAX_MAPPINGS = 16384;
const ENTRIES = 512;
const PAGE_BYTES = 4096;
const PRESENT = 1;
const LARGE = 0x80;
/** Linux with page-table isolation: the user's tables follow the kernel's. */
const PTI_USER_TABLE = 0x1000n;

/**
 * The mappings of the kernel, by the vCPU that sees the most of them. Without long mode there are none.
 *
 * @param all the registers of each vCPU
 */
export function kernelMappings(memory: GuestMemory, all: readonly PagingRegisters[]): Mapping[] {
	const roots = new Map<bigint, PagingRegisters>();
	for (const { cr0, cr3, cr4, efer } of all) {
		for (const root of [cr3 & ~0xfffn, cr3 & ~0xfffn & ~PTI_USER_TABLE]) roots.set(root, { cr0, cr3: root, cr4, efer });
	}
	let most: Mapping[] = [];
	for (const registers of roots.values()) {
		const found = new UpperHalf(memory, registers).mappings;
		if (sizeOf(found) > sizeOf(most)) most = found;
	}
	return most;
}

function sizeOf(mappings: readonly Mapping[]): number {
	return mappings.reduce((sum, { bytes }) => sum + bytes, 0);
}

class UpperHalf {
	readonly mappings: Mapping[] = [];
	readonly #memory: GuestMemory;
	#tables = 0;
	/** The range that the next page may go on. */
	#last: { address: bigint; gpa: number; bytes: number } | undefined;

	constructor(memory: GuestMemory, registers: PagingRegisters) {
		this.#memory = memory;
		const mode = pagingMode(registers);
		if (mode !== "4-level" && mode !== "5-level") return;
		const levels = mode === "5-level" ? 5 : 4;
		const root = Number(BigInt.asUintN(52, registers.cr3));
		this.#table(root, levels, -(1n << BigInt(9 * levels + 11)), ENTRIES / 2);
		this.#end();
	}

	/** @param address of the first entry that is looked at */
	#table(gpa: number, level: number, address: bigint, first = 0): void {
		const window = this.#memory.find(gpa, PAGE_BYTES);
		if (window === undefined || ++this.#tables > MAX_TABLES) return;
		const view = window.view;
		const pageBytes = PAGE_BYTES * ENTRIES ** (level - 1);
		for (let i = first; i < ENTRIES; i++) {
			const at = gpa - window.gpa + 8 * i;
			const low = view.getUint32(at, true);
			if ((low & PRESENT) === 0) continue;
			/* Bits 51 to 12. */
			const frame = u64((low & ~0xfff) >>> 0, view.getUint32(at + 4, true) & 0xf_ffff);
			const where = address + BigInt(i - first) * BigInt(pageBytes);
			const isPage = level === 1 || (level <= 3 && (low & LARGE) !== 0);
			if (isPage) this.#page(where, frame - (frame % pageBytes), pageBytes);
			else this.#table(frame, level - 1, where);
		}
	}

	#page(address: bigint, gpa: number, bytes: number): void {
		const last = this.#last;
		if (last !== undefined && last.gpa + last.bytes === gpa && last.address + BigInt(last.bytes) === address) {
			last.bytes += bytes;
			return;
		}
		this.#end();
		this.#last = { address, gpa, bytes };
	}

	/** Keeps the parts of the last range that are RAM. */
	#end(): void {
		const last = this.#last;
		if (last === undefined) return;
		for (const window of this.#memory.windows) {
			const start = Math.max(last.gpa, window.gpa);
			const end = Math.min(last.gpa + last.bytes, window.end);
			if (end <= start || this.mappings.length >= MAX_MAPPINGS) continue;
			const address = BigInt.asUintN(64, last.address + BigInt(start - last.gpa));
			this.mappings.push({ address, gpa: start, bytes: end - start });
		}
		this.#last = undefined;
	}
}
