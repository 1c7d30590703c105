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
import { Observers } from "../../src/base/observer.ts";
import { packageRoot } from "../../src/host/native.ts";
import { GuestRam } from "../../src/host/ram.ts";
import { RunLoop } from "../../src/host/run-loop.ts";
import { KVM_EXIT_HLT, KVM_EXIT_INTR, KVM_MP_STATE_RUNNABLE } from "../../src/kvm/constants.ts";
import { type KvmSegment, structView } from "../../src/kvm/struct-view.ts";
import { kvm_regs, kvm_run } from "../../src/kvm/structs.ts";
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
	/** Of its exits and accesses; nobody when missing. */
	observers?: Observers;
}

/** Builds the guests once per test process (make does nothing when they are up to date). */
export function buildBareGuests(): void {
	execFileSync("make", ["-s", "-C", join(packageRoot(), "guests/bare")], { stdio: "pipe" });
}

export class BareGuest {
	readonly pio: Bus;
	readonly mmio: Bus;
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
	constructor(name: string, { vcpus = 1, irqchip = false, observers = new Observers() }: BareOptions = {}) {
		this.pio = new Bus("pio", observers);
		this.mmio = new Bus("mmio", observers);
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
		const exits = new ExitHandler({
			pio: this.pio,
			mmio: this.mmio,
			observers,
			end: (end) => {
				const { reason, detail } = end as { reason: string; detail?: string };
				this.#finish({ kind: "failed", reason: detail === undefined ? reason : `${reason}: ${detail}` });
			},
		});
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
		const segment = (register: KvmSegment, values: Partial<KvmSegment>): void => {
			register.bytes.fill(0);
			Object.assign(register, { present: 1, ...values } satisfies Partial<KvmSegment>);
		};
		const flat = { limit: 0xffff_ffff, dpl: 3, s: 1, g: 1 };
		const { cs, ds, es, fs, gs, ss, tr } = sregs;
		segment(cs, { ...flat, selector: 0x23, type: 0xb, l: 1 });
		for (const data of [ss, ds, es, fs, gs]) segment(data, { ...flat, selector: 0x1b, type: 3, db: 1 });
		segment(tr, { base: BigInt(tss), limit: 0x67, selector: 0x28, type: 0xb });
		sregs.gdt.base = BigInt(gdt);
		sregs.gdt.limit = gdtBytes - 1;
		sregs.idt.base = BigInt(idt);
		sregs.idt.limit = idtBytes - 1;
		sregs.cr0 = 0x8005_0033n; /* PG, AM, WP, NE, ET, MP, PE */
		sregs.cr3 = BigInt(PAGE_TABLES);
		sregs.cr4 = 0x620n; /* OSXMMEXCPT, OSFXSR, PAE */
		sregs.efer = 0x500n; /* LMA, LME */
		vcpu.setSregs(sregs);
		const regs = structView(kvm_regs);
		regs.rip = BigInt(entry);
		regs.rsp = BigInt(stack - 8);
		regs.rdi = BigInt(index);
		regs.rflags = 2n;
		vcpu.setRegs(regs);
		if (irqchip) vcpu.setMpState(KVM_MP_STATE_RUNNABLE);
		return vcpu;
	}
}

/** A device of one port that only takes writes. */
export function writeOnly(name: string, write: (value: number) => void): BusDevice {
	return { name, read: () => 0xff, write: (_offset, _size, value) => write(value) };
}
