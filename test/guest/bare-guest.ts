/*
 * A virtual machine for the bare-metal guests of guests/bare: the real Kvm, Vm, Vcpu, RunLoop and Bus, and nothing of
 * a PC. Each vCPU starts in ring 3 of 64-bit mode with IOPL 3, all memory identity-mapped and open to ring 3:
 *
 *     0x1000 page tables  0x100000 guest image  | 16 MiB |  0xd0000000 devices  0xfec00000 I/O APIC  0xfee00000 LAPIC
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Bus, type BusDevice } from "../../src/base/bus.ts";
import { GuestMemory } from "../../src/base/guest-memory.ts";
import { packageRoot } from "../../src/host/native.ts";
import { GuestRam } from "../../src/host/ram.ts";
import { RunLoop } from "../../src/host/run-loop.ts";
import { KVM_EXIT_HLT, KVM_EXIT_INTR, KVM_MP_STATE_RUNNABLE } from "../../src/kvm/constants.ts";
import { kvm_dtable, kvm_regs, kvm_run, kvm_segment, kvm_sregs } from "../../src/kvm/structs.ts";
import { Kvm } from "../../src/kvm/system.ts";
import type { Vcpu } from "../../src/kvm/vcpu.ts";
import type { Vm } from "../../src/kvm/vm.ts";
import { ExitHandler } from "../../src/machine/vcpu-exit.ts";

const RAM_BYTES = 16 << 20;
const PAGE_TABLES = 0x1000;
const IMAGE = 0x100000;

/** How a guest ended. */
export type BareEnd =
	| { kind: "finished"; status: number }
	| { kind: "halted" }
	| { kind: "interrupted"; vcpu: number }
	| { kind: "failed"; reason: string };

export interface BareOptions {
	vcpus?: number;
	/** In-kernel interrupt controllers; then HLT waits instead of ending. */
	irqchip?: boolean;
}

/** Builds the guests once per test process (make does nothing when they are up to date). */
export function buildBareGuests(): void {
	execFileSync("make", ["-s", "-C", join(packageRoot(), "guests/bare")], { stdio: "pipe" });
}

export class BareGuest {
	readonly pio = new Bus();
	readonly mmio = new Bus();
	readonly vm: Vm;
	readonly vcpus: Vcpu[] = [];
	readonly runLoop: RunLoop;
	readonly memory: GuestMemory;
	/** What the guest printed on port 0x3f8. */
	output = "";
	/** Exits that TypeScript had to handle. */
	exits = 0;
	readonly #kvm: Kvm;
	readonly #ram: GuestRam;
	#end: ((end: BareEnd) => void) | undefined;

	/** @param name file name in guests/bare, without ".c" */
	constructor(name: string, { vcpus = 1, irqchip = false }: BareOptions = {}) {
		const image = readFileSync(join(packageRoot(), `guests/out/bare/${name}.bin`));
		this.#kvm = Kvm.open();
		this.vm = this.#kvm.createVm();
		this.#ram = GuestRam.map([{ gpa: 0, sizeBytes: RAM_BYTES }]);
		this.memory = new GuestMemory(this.#ram.regions);
		this.vm.setUserMemoryRegion({ slot: 0, ...this.#ram.regions[0]! });
		if (irqchip) {
			this.vm.setTssAddr(0xfffb_d000);
			this.vm.createIrqchip();
		}
		this.memory.write(IMAGE, image);
		this.#writePageTables();
		for (let i = 0; i < vcpus; i++) this.vcpus.push(this.#createVcpu(i, irqchip));
		const exits = new ExitHandler(
			this.pio,
			this.mmio,
			(end) => {
				const { reason, detail } = end as { reason: string; detail?: string };
				this.#finish({ kind: "failed", reason: detail === undefined ? reason : `${reason}: ${detail}` });
			},
			() => undefined,
		);
		this.runLoop = new RunLoop(vcpus, {
			onExit: (index, run) => {
				this.exits++;
				const reason = run.getUint32(kvm_run.exit_reason, true);
				if (reason === KVM_EXIT_HLT) return this.#finish({ kind: "halted" });
				if (reason === KVM_EXIT_INTR) return this.#finish({ kind: "interrupted", vcpu: index });
				return exits.handle(index, run) === true;
			},
			onPosted: (address, size, value, pio) => {
				const data = new Uint8Array(size).map((_, i) => value >>> (8 * i));
				void (pio ? this.pio : this.mmio).write(address, data);
			},
			onFailed: (index, errno) => this.#finish({ kind: "failed", reason: `KVM_RUN of vCPU ${index}: ${errno}` }),
		});
		this.pio.add(
			0x3f8,
			1,
			writeOnly("serial", (value) => {
				this.output += String.fromCharCode(value);
			}),
		);
		this.pio.add(
			0x500,
			1,
			writeOnly("end", (status) => {
				this.#finish({ kind: "finished", status });
			}),
		);
	}

	/** Lets the guest run and waits for its end; its vCPUs stay where they are. */
	run(): Promise<BareEnd> {
		const end = this.ended();
		this.vcpus.forEach((vcpu, i) => {
			this.runLoop.start(i, vcpu.fd, this.vm.vcpuMmapSize);
		});
		return end;
	}

	/** The next end, for a guest that was resumed. */
	ended(): Promise<BareEnd> {
		return new Promise((resolve) => {
			this.#end = resolve;
		});
	}

	close(): void {
		this.runLoop.close();
		for (const vcpu of this.vcpus) vcpu.close();
		this.vm.close();
		this.#kvm.close();
		this.#ram.close();
	}

	#finish(end: BareEnd): false {
		this.#end?.(end);
		this.#end = undefined;
		return false;
	}

	/** 4 GiB by 2 MiB pages: present, writable, user. */
	#writePageTables(): void {
		const flags = 0x7;
		const pdpt = PAGE_TABLES + 0x1000;
		this.memory.setU64(PAGE_TABLES, pdpt + flags);
		for (let gib = 0; gib < 4; gib++) {
			const directory = PAGE_TABLES + 0x2000 + gib * 0x1000;
			this.memory.setU64(pdpt + 8 * gib, directory + flags);
			for (let i = 0; i < 512; i++) this.memory.setU64(directory + 8 * i, gib * 2 ** 30 + i * 2 ** 21 + flags + 0x80);
		}
	}

	/** The header is that of guests/bare/start.S. */
	#createVcpu(index: number, irqchip: boolean): Vcpu {
		const { memory } = this;
		if (Buffer.from(memory.bytes(IMAGE, 8)).toString() !== "TSVMBARE") throw new Error("not a bare-metal guest");
		const header = (word: number): number => memory.u64(IMAGE + 8 + 8 * word);
		const [entry, gdt, gdtBytes, idt, idtBytes] = [header(0), header(1), header(2), header(3), header(4)];
		const tss = header(5) + index * header(6);
		const stack = header(7) + (index + 1) * header(8);

		const vcpu = this.vm.createVcpu(index);
		vcpu.setCpuid2(this.#kvm.getSupportedCpuid());
		const sregs = vcpu.getSregs();
		const segment = (at: number, selector: number, type: number, dpl: number, code: boolean): void => {
			sregs.fill(0, at, at + kvm_segment.sizeof);
			sregs.writeUInt32LE(0xffff_ffff, at + kvm_segment.limit);
			sregs.writeUInt16LE(selector, at + kvm_segment.selector);
			sregs[at + kvm_segment.type] = type;
			sregs[at + kvm_segment.present] = 1;
			sregs[at + kvm_segment.dpl] = dpl;
			sregs[at + kvm_segment.s] = 1;
			sregs[at + kvm_segment.l] = code ? 1 : 0;
			sregs[at + kvm_segment.db] = code ? 0 : 1;
			sregs[at + kvm_segment.g] = 1;
		};
		segment(kvm_sregs.cs, 0x23, 0xb, 3, true);
		for (const at of [kvm_sregs.ss, kvm_sregs.ds, kvm_sregs.es, kvm_sregs.fs, kvm_sregs.gs])
			segment(at, 0x1b, 3, 3, false);
		segment(kvm_sregs.tr, 0x28, 0xb, 0, false);
		sregs[kvm_sregs.tr + kvm_segment.s] = 0;
		sregs.writeBigUInt64LE(BigInt(tss), kvm_sregs.tr + kvm_segment.base);
		sregs.writeUInt32LE(0x67, kvm_sregs.tr + kvm_segment.limit);
		sregs[kvm_sregs.tr + kvm_segment.g] = 0;
		sregs[kvm_sregs.tr + kvm_segment.db] = 0;
		for (const [at, base, bytes] of [
			[kvm_sregs.gdt, gdt, gdtBytes],
			[kvm_sregs.idt, idt, idtBytes],
		] as const) {
			sregs.writeBigUInt64LE(BigInt(base), at + kvm_dtable.base);
			sregs.writeUInt16LE(bytes - 1, at + kvm_dtable.limit);
		}
		sregs.writeBigUInt64LE(0x8005_0033n, kvm_sregs.cr0); /* PG, AM, WP, NE, ET, MP, PE */
		sregs.writeBigUInt64LE(BigInt(PAGE_TABLES), kvm_sregs.cr3);
		sregs.writeBigUInt64LE(0x620n, kvm_sregs.cr4); /* OSXMMEXCPT, OSFXSR, PAE */
		sregs.writeBigUInt64LE(0x500n, kvm_sregs.efer); /* LMA, LME */
		vcpu.setSregs(sregs);
		const regs = Buffer.alloc(kvm_regs.sizeof);
		regs.writeBigUInt64LE(BigInt(entry), kvm_regs.rip);
		regs.writeBigUInt64LE(BigInt(stack - 8), kvm_regs.rsp);
		regs.writeBigUInt64LE(BigInt(index), kvm_regs.rdi);
		regs.writeBigUInt64LE(2n, kvm_regs.rflags);
		vcpu.setRegs(regs);
		if (irqchip) vcpu.setMpState(KVM_MP_STATE_RUNNABLE);
		return vcpu;
	}
}

/** A device of one port that only takes writes. */
export function writeOnly(name: string, write: (value: number) => void): BusDevice {
	return { name, read: () => 0xff, write: (_offset, _size, value) => write(value) };
}
