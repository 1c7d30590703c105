/*
 * What the boot CPU holds when it enters the kernel, as the buffers that KVM's ioctls take. Two ways in:
 *
 *     pvh      32-bit protected mode, flat segments, paging off, EBX = start info (xen/docs/misc/pvh.pandoc)
 *     linux64  long mode, first 4 GiB mapped one to one, RSI = zero page (Documentation/arch/x86/boot.rst, 64-bit)
 *
 * The other CPUs keep the state KVM created them with: the in-kernel APIC holds them until their start-up IPI.
 */
import type { GuestMemory } from "../base/guest-memory.ts";
import {
	kvm_cpuid_entry2,
	kvm_cpuid2,
	kvm_dtable,
	kvm_fpu,
	kvm_lapic_state,
	kvm_regs,
	kvm_segment,
	kvm_sregs,
	kvm_xcr,
	kvm_xcrs,
} from "../kvm/structs.ts";
import { GDT_ADDRESS, PAGE_TABLES_ADDRESS, START_INFO_ADDRESS, ZERO_PAGE_ADDRESS } from "./addresses.ts";
import type { BootProtocol } from "./loaded.ts";

const CR0_PE = 1n << 0n;
const CR0_ET = 1n << 4n;
const CR0_NE = 1n << 5n;
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;
const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;
const RFLAGS_RESERVED = 2n;

const PTE_PRESENT_WRITABLE = 0x3;
const PTE_PAGE_SIZE = 0x80;
const PAGE = 4096;
const LARGE_PAGE = 2 << 20;

/* Selectors: __BOOT_CS and __BOOT_DS of the 64-bit protocol, the same for PVH, and a task register. */
const CODE = 0x10;
const DATA = 0x18;
const TASK = 0x20;
const GDT_ENTRIES = 5;

interface SegmentType {
	readonly selector: number;
	readonly type: number;
	readonly limit: number;
	readonly db: number;
	readonly l: number;
	readonly s: number;
	readonly g: number;
}
const CODE32: SegmentType = { selector: CODE, type: 0xb, limit: 0xffffffff, db: 1, l: 0, s: 1, g: 1 };
const CODE64: SegmentType = { selector: CODE, type: 0xb, limit: 0xffffffff, db: 0, l: 1, s: 1, g: 1 };
const DATA32: SegmentType = { selector: DATA, type: 0x3, limit: 0xffffffff, db: 1, l: 0, s: 1, g: 1 };
const TSS32: SegmentType = { selector: TASK, type: 0xb, limit: 0x67, db: 0, l: 0, s: 0, g: 0 };

/** struct kvm_regs for the first instruction at `entry`. */
export function bootRegs(protocol: BootProtocol, entry: number): Buffer {
	const regs = Buffer.alloc(kvm_regs.sizeof);
	regs.writeBigUInt64LE(RFLAGS_RESERVED, kvm_regs.rflags);
	regs.writeBigUInt64LE(BigInt(entry), kvm_regs.rip);
	if (protocol === "pvh") regs.writeBigUInt64LE(BigInt(START_INFO_ADDRESS), kvm_regs.rbx);
	else regs.writeBigUInt64LE(BigInt(ZERO_PAGE_ADDRESS), kvm_regs.rsi);
	return regs;
}

/** Turns what KVM_GET_SREGS answered into the boot CPU's state, in place. Returns `sregs`. */
export function bootSregs(sregs: Buffer, protocol: BootProtocol): Buffer {
	const long = protocol === "linux64";
	writeSegment(sregs, kvm_sregs.cs, long ? CODE64 : CODE32);
	for (const at of [kvm_sregs.ds, kvm_sregs.es, kvm_sregs.fs, kvm_sregs.gs, kvm_sregs.ss]) {
		writeSegment(sregs, at, DATA32);
	}
	writeSegment(sregs, kvm_sregs.tr, TSS32);
	writeTable(sregs, kvm_sregs.gdt, GDT_ADDRESS, GDT_ENTRIES * 8 - 1);
	writeTable(sregs, kvm_sregs.idt, 0, 0);
	const cr0 = CR0_PE | CR0_ET | (long ? CR0_NE | CR0_PG : 0n);
	sregs.writeBigUInt64LE(cr0, kvm_sregs.cr0);
	sregs.writeBigUInt64LE(0n, kvm_sregs.cr2);
	sregs.writeBigUInt64LE(long ? BigInt(PAGE_TABLES_ADDRESS) : 0n, kvm_sregs.cr3);
	sregs.writeBigUInt64LE(long ? CR4_PAE : 0n, kvm_sregs.cr4);
	sregs.writeBigUInt64LE(long ? EFER_LME | EFER_LMA : 0n, kvm_sregs.efer);
	return sregs;
}

/** Writes the GDT and, for the 64-bit protocol, the page tables to guest memory. */
export function writeBootTables(memory: GuestMemory, protocol: BootProtocol): void {
	const long = protocol === "linux64";
	const gdt = [null, null, long ? CODE64 : CODE32, DATA32, TSS32];
	for (const [i, segment] of gdt.entries()) {
		const [low, high] = segment === null ? [0, 0] : descriptor(segment);
		memory.setU32(GDT_ADDRESS + 8 * i, low);
		memory.setU32(GDT_ADDRESS + 8 * i + 4, high);
	}
	if (!long) return;
	const pml4 = PAGE_TABLES_ADDRESS;
	const pdpt = pml4 + PAGE;
	const pds = pdpt + PAGE;
	memory.write(pml4, new Uint8Array(6 * PAGE));
	memory.setU64(pml4, pdpt + PTE_PRESENT_WRITABLE);
	for (let i = 0; i < 4; i++) memory.setU64(pdpt + 8 * i, pds + PAGE * i + PTE_PRESENT_WRITABLE);
	for (let i = 0; i < 2048; i++) memory.setU64(pds + 8 * i, i * LARGE_PAGE + PTE_PRESENT_WRITABLE + PTE_PAGE_SIZE);
}

export const MSR_IA32_MISC_ENABLE = 0x1a0;
const MSR_MTRR_DEF_TYPE = 0x2ff;
const MISC_ENABLE_FAST_STRING = 1n;

/**
 * MSRs of every vCPU that firmware would have set: index and value.
 *
 * @param miscEnable what KVM gave IA32_MISC_ENABLE: its other bits say what the vCPU does not have
 */
export function bootMsrs(miscEnable: bigint): [index: number, value: bigint][] {
	return [
		[MSR_IA32_MISC_ENABLE, miscEnable | MISC_ENABLE_FAST_STRING],
		[MSR_MTRR_DEF_TYPE, (1n << 11n) | 6n] /* enabled, write-back; Linux distrusts PAT without MTRRs */,
	];
}

const XCR0_X87_SSE_AVX = 7n;
const XSAVE_LEAF = 0xd;

/**
 * struct kvm_xcrs for every vCPU: XCR0 with the features that all kernels enable first thing, rather than its reset
 * value, because some hosts (QEMU's TCG emulating SVM) never tell KVM of the guest's XSETBV. Undefined without XSAVE.
 *
 * @param cpuid the vCPU's own, as guestCpuid made it
 */
export function bootXcrs(cpuid: Buffer): Buffer | undefined {
	const count = cpuid.readUInt32LE(kvm_cpuid2.nent);
	for (let i = 0; i < count; i++) {
		const at = kvm_cpuid2.sizeof + i * kvm_cpuid_entry2.sizeof;
		if (cpuid.readUInt32LE(at + kvm_cpuid_entry2.function) !== XSAVE_LEAF) continue;
		if (cpuid.readUInt32LE(at + kvm_cpuid_entry2.index) !== 0) continue;
		const xcrs = Buffer.alloc(kvm_xcrs.sizeof);
		const features = BigInt(cpuid.readUInt32LE(at + kvm_cpuid_entry2.eax)) & XCR0_X87_SSE_AVX;
		xcrs.writeUInt32LE(1, kvm_xcrs.nr_xcrs);
		xcrs.writeBigUInt64LE(features | 1n, kvm_xcrs.xcrs + kvm_xcr.value);
		return xcrs;
	}
	return undefined;
}

/** struct kvm_fpu after FNINIT, with the SSE control word's default. */
export function bootFpu(): Buffer {
	const fpu = Buffer.alloc(kvm_fpu.sizeof);
	fpu.writeUInt16LE(0x37f, kvm_fpu.fcw);
	fpu.writeUInt32LE(0x1f80, kvm_fpu.mxcsr);
	return fpu;
}

const APIC_LVT0 = 0x350;
const APIC_LVT1 = 0x360;
const APIC_DELIVERY_MODE_SHIFT = 8;
const APIC_DM_NMI = 4;
const APIC_DM_EXTINT = 7;

/**
 * Wires the local APIC's pins as firmware does, in place in what KVM_GET_LAPIC answered: LINT0 to the PIC, LINT1 to
 * NMI (MP 1.4 §3.6.2.2, virtual wire mode). For the boot CPU. Returns `lapic`.
 */
export function bootLapic(lapic: Buffer): Buffer {
	for (const [register, mode] of [
		[APIC_LVT0, APIC_DM_EXTINT],
		[APIC_LVT1, APIC_DM_NMI],
	] as const) {
		const at = kvm_lapic_state.regs + register;
		const kept = lapic.readUInt32LE(at) & ~(0x1_0000 | (7 << APIC_DELIVERY_MODE_SHIFT));
		lapic.writeUInt32LE((kept | (mode << APIC_DELIVERY_MODE_SHIFT)) >>> 0, at);
	}
	return lapic;
}

function writeSegment(sregs: Buffer, at: number, segment: SegmentType): void {
	sregs.fill(0, at, at + kvm_segment.sizeof);
	sregs.writeUInt32LE(segment.limit, at + kvm_segment.limit);
	sregs.writeUInt16LE(segment.selector, at + kvm_segment.selector);
	sregs[at + kvm_segment.type] = segment.type;
	sregs[at + kvm_segment.present] = 1;
	sregs[at + kvm_segment.db] = segment.db;
	sregs[at + kvm_segment.s] = segment.s;
	sregs[at + kvm_segment.l] = segment.l;
	sregs[at + kvm_segment.g] = segment.g;
}

function writeTable(sregs: Buffer, at: number, base: number, limit: number): void {
	sregs.writeBigUInt64LE(BigInt(base), at + kvm_dtable.base);
	sregs.writeUInt16LE(limit, at + kvm_dtable.limit);
}

/** The two words of a segment descriptor with base 0 (Intel SDM vol. 3 §3.4.5). */
function descriptor({ type, limit, db, l, s, g }: SegmentType): [number, number] {
	const units = g === 1 ? limit >>> 12 : limit;
	const high = (type << 8) | (s << 12) | (1 << 15) | (units & 0xf0000) | (l << 21) | (db << 22) | (g << 23);
	return [units & 0xffff, high >>> 0];
}
