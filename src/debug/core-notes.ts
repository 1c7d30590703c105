/*
 * The notes of a core file. Each vCPU has its registers as gdb reads them of a thread (NT_PRSTATUS, NT_FPREGSET; layouts of
 * <sys/procfs.h>). It has them once more, with segments and control registers, under the name "QEMU". Tools that analyse
 * dumps of virtual machines look for them there.
 */
import { array, struct } from "../base/struct.ts";
import type { KvmRegs, KvmSegment, KvmSregs } from "../kvm/struct-view.ts";
import type { Vcpu } from "../kvm/vcpu.ts";

const NT_PRSTATUS = 1;
const NT_FPREGSET = 2;
const FXSAVE_BYTES = 512;
const MSR_KERNEL_GS_BASE = 0xc000_0102;

/** struct elf_prstatus of <sys/procfs.h>; what is not ours is left out as padding. */
export const elf_prstatus = struct("elf_prstatus", {
	pr_info: array("u32", 3),
	pr_cursig: "u16",
	pr_sigpend: "u64",
	pr_sighold: "u64",
	pr_pid: "u32",
	pr_ppid: "u32",
	pr_pgrp: "u32",
	pr_sid: "u32",
	pr_utime: array("u64", 2),
	pr_stime: array("u64", 2),
	pr_cutime: array("u64", 2),
	pr_cstime: array("u64", 2),
	pr_reg: array("u64", 27),
	pr_fpvalid: "u32",
});

/** The order of struct user_regs_struct (<sys/user.h>). */
const USER_REGISTERS = [
	...["r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"],
	...["orig_rax", "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"],
];

const CPU_REGISTERS = [
	...(["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"] as const),
	...(["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"] as const),
];
const CPU_SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr"] as const;

/** The notes of all vCPUs, which are stopped. */
export function coreNotes(vcpus: readonly Vcpu[]): Buffer {
	return Buffer.concat(
		vcpus.flatMap((vcpu, index) => {
			const regs = vcpu.getRegs();
			const sregs = vcpu.getSregs();
			const fpu = vcpu.getXsave().subarray(0, FXSAVE_BYTES);
			return [
				note("CORE", NT_PRSTATUS, prstatus(index, regs, sregs)),
				note("CORE", NT_FPREGSET, fpu),
				note("QEMU", 0, cpuState(regs, sregs, vcpu.getMsrs([MSR_KERNEL_GS_BASE]).get(MSR_KERNEL_GS_BASE) ?? 0n)),
			];
		}),
	);
}

/** Name and content are padded to 4 bytes (System V gABI, chapter 5, "Note Section"). */
function note(name: string, type: number, content: Uint8Array): Buffer {
	const pad4 = (bytes: number) => Math.ceil(bytes / 4) * 4;
	const nameBytes = name.length + 1;
	const bytes = Buffer.alloc(12 + pad4(nameBytes) + pad4(content.length));
	bytes.writeUInt32LE(nameBytes, 0);
	bytes.writeUInt32LE(content.length, 4);
	bytes.writeUInt32LE(type, 8);
	bytes.write(name, 12, "latin1");
	bytes.set(content, 12 + pad4(nameBytes));
	return bytes;
}

function prstatus(index: number, regs: KvmRegs, sregs: KvmSregs): Buffer {
	const bytes = Buffer.alloc(elf_prstatus.sizeof);
	/* gdb takes it for a thread's id, and 0 for none. */
	bytes.writeUInt32LE(index + 1, elf_prstatus.pr_pid);
	bytes.writeUInt32LE(1, elf_prstatus.pr_fpvalid);
	USER_REGISTERS.forEach((name, i) => {
		bytes.writeBigUInt64LE(userRegister(name, regs, sregs), elf_prstatus.pr_reg + 8 * i);
	});
	return bytes;
}

function userRegister(name: string, regs: KvmRegs, sregs: KvmSregs): bigint {
	if (name === "orig_rax") return 0xffff_ffff_ffff_ffffn;
	if (name === "fs_base") return sregs.fs.base;
	if (name === "gs_base") return sregs.gs.base;
	if (name in regs) return regs[name as "rip"];
	return BigInt(sregs[name as "cs"].selector);
}

/** Version and size, then registers, segments, CR0 to CR4 and the kernel's GS base. */
function cpuState(regs: KvmRegs, sregs: KvmSregs, kernelGsBase: bigint): Buffer {
	const words: bigint[] = CPU_REGISTERS.map((name) => regs[name]);
	for (const name of CPU_SEGMENTS) words.push(...segmentWords(sregs[name]));
	for (const { base, limit } of [sregs.gdt, sregs.idt]) words.push(BigInt(limit) << 32n, 0n, base);
	words.push(sregs.cr0, 0n, sregs.cr2, sregs.cr3, sregs.cr4, kernelGsBase);
	const bytes = Buffer.alloc(8 + 8 * words.length);
	bytes.writeUInt32LE(1, 0);
	bytes.writeUInt32LE(bytes.length, 4);
	words.forEach((word, i) => {
		bytes.writeBigUInt64LE(BigInt.asUintN(64, word), 8 + 8 * i);
	});
	return bytes;
}

/** Selector and limit, the second word of the descriptor, the base. */
function segmentWords({ selector, limit, base, type, s, dpl, present, avl, l, db, g }: KvmSegment): bigint[] {
	const flags =
		(type << 8) | (s << 12) | (dpl << 13) | (present << 15) | (avl << 20) | (l << 21) | (db << 22) | (g << 23);
	return [BigInt(selector) | (BigInt(limit) << 32n), BigInt(flags >>> 0), base];
}
