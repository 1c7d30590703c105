/*
 * Lab 4, solved: page tables and registers with which a processor begins in 64-bit mode. The first GiB of physical memory
 * is at 0 and, once more, at 0xffffffff80000000, where Linux lives:
 *
 *     PML4  0x1000  [0]   -> 0x2000   PDPT  [0]   -> 0x4000   PD  [i] -> i * 2 MiB
 *                   [511] -> 0x3000   PDPT  [510] -> 0x4000
 */
import { kvm_regs, structView, type Vcpu } from "tsvmm/kvm";

const PML4 = 0x1000;
const PDPT_LOW = 0x2000;
const PDPT_HIGH = 0x3000;
const PD = 0x4000;

const PRESENT_WRITABLE = 0x3;
const LARGE = 0x80;
const LARGE_PAGE_BYTES = 2 << 20;

/** @param ram the guest's RAM from address 0; `entry` is virtual */
export function enterLongMode(ram: Uint8Array, vcpu: Vcpu, entry: bigint): void {
	const memory = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
	const setEntry = (table: number, index: number, value: number) =>
		memory.setBigUint64(table + 8 * index, BigInt(value), true);
	setEntry(PML4, 0, PDPT_LOW | PRESENT_WRITABLE);
	setEntry(PML4, 511, PDPT_HIGH | PRESENT_WRITABLE);
	setEntry(PDPT_LOW, 0, PD | PRESENT_WRITABLE);
	setEntry(PDPT_HIGH, 510, PD | PRESENT_WRITABLE);
	for (let i = 0; i < 512; i++) setEntry(PD, i, i * LARGE_PAGE_BYTES + LARGE + PRESENT_WRITABLE);

	const sregs = vcpu.getSregs();
	sregs.cr3 = BigInt(PML4);
	sregs.cr4 |= 1n << 5n; /* PAE */
	sregs.efer |= (1n << 8n) | (1n << 10n); /* LME, LMA */
	sregs.cr0 |= (1n << 0n) | (1n << 31n); /* PE, PG */
	const { cs } = sregs;
	cs.base = 0n;
	cs.limit = 0xffff_ffff;
	cs.selector = 0x10;
	cs.type = 11; /* code, readable, accessed */
	cs.present = 1;
	cs.dpl = 0;
	cs.s = 1;
	cs.g = 1;
	cs.l = 1;
	cs.db = 0;
	for (const data of [sregs.ds, sregs.es, sregs.ss]) {
		data.base = 0n;
		data.limit = 0xffff_ffff;
		data.selector = 0x18;
		data.type = 3; /* data, writable, accessed */
		data.present = 1;
		data.dpl = 0;
		data.s = 1;
		data.g = 1;
		data.db = 1;
	}
	vcpu.setSregs(sregs);

	const regs = structView(kvm_regs);
	regs.rip = entry;
	regs.rflags = 2n;
	vcpu.setRegs(regs);
}
