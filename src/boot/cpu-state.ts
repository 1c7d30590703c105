/*
 * The state of the boot CPU when it enters the kernel, as KVM's ioctls take it. There are two protocols:
 *
 *     pvh      32-bit protected mode, flat segments, paging off, EBX = start info (xen/docs/misc/pvh.pandoc)
 *     linux64  long mode, first 4 GiB mapped one to one, RSI = zero page (Documentation/arch/x86/boot.rst, 64-bit)
 *
 * The other CPUs keep their initial state of KVM. The in-kernel APIC holds them until their start-up IPI.
 */
import type { GuestMemory } from "../base/guest-memory.ts";
import { CR0_ET, CR0_NE, CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME } from "../kvm/control-registers.ts";
import {
	type KvmFpu,
	type KvmLapicState,
	type KvmRegs,
	type KvmSegment,
	type KvmSregs,
	type KvmXcrs,
	structView,
} from "../kvm/struct-view.ts";
import { kvm_cpuid_entry2, kvm_cpuid2, kvm_fpu, kvm_lapic_state, kvm_regs, kvm_xcrs } from "../kvm/structs.ts";
import { GDT_ADDRESS, PAGE_TABLES_ADDRESS, START_INFO_ADDRESS, ZERO_PAGE_ADDRESS } from "./addresses.ts";
import type { BootProtocol } from "./loaded.ts";

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

/** The registers for the first instruction at `entry`. */
export function bootRegs(protocol: BootProtocol, entry: number): KvmRegs {
	const regs = structView(kvm_regs);
	regs.rflags = RFLAGS_RESERVED;
	regs.rip = BigInt(entry);
	if (protocol === "pvh") regs.rbx = BigInt(START_INFO_ADDRESS);
	else regs.rsi = BigInt(ZERO_PAGE_ADDRESS);
	return regs;
}

/** Changes the result of KVM_GET_SREGS into the boot CPU's state. Returns `sregs`. */
export function bootSregs(sregs: KvmSregs, protocol: BootProtocol): KvmSregs {
	const long = protocol === "linux64";
	const { cs, ds, es, fs, gs, ss, tr, gdt, idt } = sregs;
	setSegment(cs, long ? CODE64 : CODE32);
	for (const data of [ds, es, fs, gs, ss]) setSegment(data, DATA32);
	setSegment(tr, TSS32);
	gdt.base = BigInt(GDT_ADDRESS);
	gdt.limit = GDT_ENTRIES * 8 - 1;
	idt.base = 0n;
	idt.limit = 0;
	sregs.cr0 = CR0_PE | CR0_ET | (long ? CR0_NE | CR0_PG : 0n);
	sregs.cr2 = 0n;
	sregs.cr3 = long ? BigInt(PAGE_TABLES_ADDRESS) : 0n;
	sregs.cr4 = long ? CR4_PAE : 0n;
	sregs.efer = long ? EFER_LME | EFER_LMA : 0n;
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
 * The MSRs of every vCPU that firmware would set: index and value.
 *
 * @param miscEnable KVM's value of IA32_MISC_ENABLE, whose other bits say what the vCPU lacks
 */
export function bootMsrs(miscEnable: bigint): [index: number, value: bigint][] {
	return [
		[MSR_IA32_MISC_ENABLE, miscEnable | MISC_ENABLE_FAST_STRING],
		[MSR_MTRR_DEF_TYPE, (1n << 11n) | 6n] /* enabled, write-back; Linux does not use PAT without MTRRs */,
	];
}

const XCR0_X87_SSE_AVX = 7n;
const XSAVE_LEAF = 0xd;

/**
 * The extended control registers of every vCPU. XCR0 has the features that all kernels enable first, and not its reset
 * value: on some hosts (QEMU's TCG that emulates SVM) KVM does not see the guest's XSETBV. Undefined without XSAVE.
 *
 * @param cpuid the vCPU's own, as guestCpuid made it
 */
export function bootXcrs(cpuid: Buffer): KvmXcrs | undefined {
	const count = cpuid.readUInt32LE(kvm_cpuid2.nent);
	for (let i = 0; i < count; i++) {
		const at = kvm_cpuid2.sizeof + i * kvm_cpuid_entry2.sizeof;
		if (cpuid.readUInt32LE(at + kvm_cpuid_entry2.function) !== XSAVE_LEAF) continue;
		if (cpuid.readUInt32LE(at + kvm_cpuid_entry2.index) !== 0) continue;
		const xcrs = structView(kvm_xcrs);
		const features = BigInt(cpuid.readUInt32LE(at + kvm_cpuid_entry2.eax)) & XCR0_X87_SSE_AVX;
		xcrs.nr_xcrs = 1;
		xcrs.xcrs[0]!.value = features | 1n;
		return xcrs;
	}
	return undefined;
}

/** The FPU after FNINIT, with the SSE control word's default. */
export function bootFpu(): KvmFpu {
	const fpu = structView(kvm_fpu);
	fpu.fcw = 0x37f;
	fpu.mxcsr = 0x1f80;
	return fpu;
}

const APIC_LVT0 = 0x350;
const APIC_LVT1 = 0x360;
const APIC_DELIVERY_MODE_SHIFT = 8;
const APIC_DM_NMI = 4;
const APIC_DM_EXTINT = 7;

/**
 * Sets the local APIC's pins as firmware does, in the result of KVM_GET_LAPIC: LINT0 to the PIC, LINT1 to NMI (MP 1.4
 * §3.6.2.2, virtual wire mode). For the boot CPU. Returns `lapic`.
 */
export function bootLapic(lapic: KvmLapicState): KvmLapicState {
	const { bytes } = lapic;
	for (const [register, mode] of [
		[APIC_LVT0, APIC_DM_EXTINT],
		[APIC_LVT1, APIC_DM_NMI],
	] as const) {
		const at = kvm_lapic_state.regs + register;
		const kept = bytes.readUInt32LE(at) & ~(0x1_0000 | (7 << APIC_DELIVERY_MODE_SHIFT));
		bytes.writeUInt32LE((kept | (mode << APIC_DELIVERY_MODE_SHIFT)) >>> 0, at);
	}
	return lapic;
}

function setSegment(segment: KvmSegment, { limit, selector, type, db, s, l, g }: SegmentType): void {
	segment.bytes.fill(0);
	Object.assign(segment, { limit, selector, type, present: 1, db, s, l, g } satisfies Partial<KvmSegment>);
}

/** The two words of a segment descriptor with base 0 (Intel SDM vol. 3 §3.4.5). */
function descriptor({ type, limit, db, l, s, g }: SegmentType): [number, number] {
	const units = g === 1 ? limit >>> 12 : limit;
	const high = (type << 8) | (s << 12) | (1 << 15) | (units & 0xf0000) | (l << 21) | (db << 22) | (g << 23);
	return [units & 0xffff, high >>> 0];
}
