/*
 * What a stopped vCPU looks like: registers, the instructions at RIP, and how its addresses are translated. The debugger
 * (src/debug) reads all of it.
 */
import type { MachineDebugger } from "../debug/debugger.ts";
import type { PageWalk } from "../debug/page-walk.ts";
import { pagingMode } from "../debug/page-walk.ts";
import { isElfFile, kernelSymbols } from "../debug/symbols/kernel-symbols.ts";
import { placementOf } from "../debug/symbols/placement.ts";
import { Symbols } from "../debug/symbols/symbols.ts";
import { CR0_PE, EFER_LMA, MSR_LSTAR } from "../kvm/control-registers.ts";
import type { KvmSregs } from "../kvm/struct-view.ts";
import { type CodeBits, disassemble, type Instruction } from "./disassembler.ts";

const GENERAL = ["rip", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"] as const;
const EXTENDED = ["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const;
const SEGMENTS = ["cs", "ss", "ds", "es", "fs", "gs", "tr"] as const;
const CONTROL = ["cr0", "cr2", "cr3", "cr4", "efer"] as const;
/** Bits of RFLAGS that a reader looks for (Intel SDM volume 1, §3.4.3). */
const FLAGS = { CF: 0, PF: 2, ZF: 6, SF: 7, TF: 8, IF: 9, DF: 10, OF: 11 } as const;

/** An instruction never has more. */
const MOST_BYTES = 15;
const INSTRUCTIONS = 16;

export interface VcpuView {
	readonly vcpu: number;
	/** Names and values, in groups. */
	readonly registers: Readonly<Record<string, bigint>>;
	readonly segments: readonly { name: string; selector: number; base: bigint; limit: number }[];
	/** Names of the bits that are set in RFLAGS. */
	readonly flags: readonly string[];
	/** "4-level", and the privilege level 0 to 3. */
	readonly paging: string;
	readonly ring: number;
	readonly bits: CodeBits;
	/** The code at RIP; shorter where memory is not mapped. */
	readonly code: readonly (Instruction & { readonly symbol: string | undefined })[];
	/** Where RIP is: "start_kernel+0x12"; undefined without symbols. */
	readonly where: string | undefined;
	/** False: iced-x86 is not installed, and `code` has bytes alone. */
	readonly disassembled: boolean;
}

export class VcpuViews {
	readonly #debugger: MachineDebugger;
	readonly #kernel: string;
	readonly #cmdline: string;
	#symbols: Promise<Symbols> | undefined;

	/** @param machine its kernel is read for symbols */
	constructor(machineDebugger: MachineDebugger, { kernel, cmdline }: { kernel: string; cmdline: string }) {
		this.#debugger = machineDebugger;
		this.#kernel = kernel;
		this.#cmdline = cmdline;
	}

	/** Undefined while the machine runs. @throws UsageError ERR_DEBUG_VCPU */
	async view(vcpu: number): Promise<VcpuView | undefined> {
		/* Read once: a vmlinux may have a hundred thousand of them. */
		this.#symbols ??= kernelSymbols(this.#kernel).catch(() => Symbols.none);
		const linked = await this.#symbols;
		if (!this.#debugger.isStopped) return undefined;
		const symbols = this.#placed(linked, vcpu);
		const regs = this.#debugger.regs(vcpu);
		const sregs = this.#debugger.sregs(vcpu);
		const registers = Object.fromEntries([
			...[...GENERAL, ...EXTENDED].map((name) => [name, regs[name]]),
			["rflags", regs.rflags],
			...CONTROL.map((name) => [name, sregs[name]]),
		]);
		const segments = SEGMENTS.map((name) => {
			const { selector, base, limit } = sregs[name];
			return { name, selector, base, limit };
		});
		const flags = Object.entries(FLAGS).filter(([, bit]) => ((regs.rflags >> BigInt(bit)) & 1n) !== 0n);
		const bits = codeBits(sregs);
		const at = bits === 64 ? regs.rip : BigInt.asUintN(64, sregs.cs.base + regs.rip);
		const bytes = this.#debugger.readVirtual(vcpu, at, INSTRUCTIONS * MOST_BYTES);
		const found = disassemble(bytes, at, bits, INSTRUCTIONS);
		const code = found ?? [{ address: at, bytes: bytes.subarray(0, 32), text: undefined, target: undefined }];
		const nameOf = (address: bigint | undefined) =>
			address === undefined || symbols.nearest(address) === undefined ? undefined : symbols.describe(address);
		return {
			vcpu,
			registers,
			segments,
			flags: flags.map(([name]) => name),
			paging: pagingMode(sregs),
			ring: sregs.ss.dpl,
			bits,
			code: code.map((one) => ({ ...one, symbol: nameOf(one.target) })),
			where: nameOf(at),
			disassembled: found !== undefined,
		};
	}

	/** Where the kernel is now: none when that is not known. */
	#placed(symbols: Symbols, vcpu: number): Symbols {
		if (symbols.count === 0) return symbols;
		const lstar = this.#debugger.vcpu(vcpu).getMsrs([MSR_LSTAR]).get(MSR_LSTAR);
		const { slide } = placementOf(symbols, {
			lstar: lstar === undefined ? [] : [lstar],
			elf: isElfFile(this.#kernel),
			cmdline: this.#cmdline,
			printed: undefined,
		});
		return slide === undefined ? Symbols.none : symbols.moved(slide);
	}

	/** Memory by virtual address, and how the address is translated. @throws StateError ERR_DEBUG_RUNNING; UsageError ERR_DEBUG_VCPU */
	memory(vcpu: number, address: bigint, length: number): { walk: PageWalk; bytes: Uint8Array } {
		return {
			walk: this.#debugger.walk(vcpu, address),
			bytes: this.#debugger.readVirtual(vcpu, address, length),
		};
	}
}

/** How the vCPU reads its code (Intel SDM volume 3, §3.4.5). */
function codeBits({ cs, efer, cr0 }: KvmSregs): CodeBits {
	if ((efer & EFER_LMA) !== 0n && cs.l !== 0) return 64;
	return (cr0 & CR0_PE) !== 0n && cs.db !== 0 ? 32 : 16;
}
