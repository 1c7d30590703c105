/*
 * Lab 4: long mode and page tables. A processor that begins in 64-bit mode. The first GiB of physical memory is to be at
 * 0 and, once more, at 0xffffffff80000000. Check it with
 *
 *     tsvmm learn check 4
 */
import { kvm_regs, structView, type Vcpu } from "tsvmm/kvm";

/**
 * @param ram the guest's RAM from address 0, 4 MiB; its code is at 0x200000
 * @param entry where it begins, a virtual address in the upper half
 */
export function enterLongMode(ram: Uint8Array, vcpu: Vcpu, entry: bigint): void {
	/* 1. Page tables, from 0x1000. An entry has 64 bits: memory.setBigUint64(table + 8 * index, value, true). */
	const memory = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
	console.log(`Yours to write: tables in ${memory.byteLength} bytes`);

	/* 2. Control registers: CR3, CR4.PAE, EFER.LME and LMA, CR0.PE and PG. */
	const sregs = vcpu.getSregs();
	/* 3. CS, a 64-bit code segment; DS, ES and SS, data segments. */
	vcpu.setSregs(sregs);

	/* 4. Where it begins. */
	const regs = structView(kvm_regs);
	regs.rip = entry & 0n;
	vcpu.setRegs(regs);
}
