/*
 * What a program does with tsvmm/kvm: its ioctls, its RAM, the exits of its vCPUs, and what it prints. The classes that
 * the program imports are the real ones. Their methods note each call and pass it on.
 */
import { explain } from "../base/errors.ts";
import { GuestRam } from "../host/ram.ts";
import { RunLoop, type RunLoopEvents } from "../host/run-loop.ts";
import type { PackageModules } from "../host/user-module.ts";
import { KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_MMIO } from "../kvm/constants.ts";
import type { KvmRegs, KvmSregs } from "../kvm/struct-view.ts";
import { kvm_run, kvm_run_io, kvm_run_mmio } from "../kvm/structs.ts";
import { Kvm } from "../kvm/system.ts";
import { Vcpu } from "../kvm/vcpu.ts";
import { type MemorySlot, Vm } from "../kvm/vm.ts";
import { exitName } from "./exit-names.ts";

/** One exit of a vCPU. */
export interface Exit {
	/** KVM_EXIT_*. */
	readonly reason: number;
	/** Of KVM_EXIT_IO. */
	readonly port?: number;
	/** Of KVM_EXIT_MMIO. */
	readonly address?: number;
	/** The guest writes; it reads otherwise. */
	readonly isWrite?: boolean;
	/** Bytes of one value, and how many values. */
	readonly size?: number;
	readonly count?: number;
	/** The processor's registers at the first start of its thread are in `starts`. */
	readonly vcpu: number;
}

/** A vCPU as its thread starts. */
export interface VcpuStart {
	readonly regs: KvmRegs;
	readonly sregs: KvmSregs;
	/** The RAM of that moment, by guest-physical address. */
	readonly ram: ReadonlyMap<number, Uint8Array>;
}

/** Methods whose calls are noted, with the name that the kernel has for them. */
const NOTED = {
	createVm: "KVM_CREATE_VM",
	createVcpu: "KVM_CREATE_VCPU",
	setUserMemoryRegion: "KVM_SET_USER_MEMORY_REGION",
	createIrqchip: "KVM_CREATE_IRQCHIP",
	ioeventfd: "KVM_IOEVENTFD",
	irqfd: "KVM_IRQFD",
	irqLine: "KVM_IRQ_LINE",
	setRegs: "KVM_SET_REGS",
	setSregs: "KVM_SET_SREGS",
} as const;

export type NotedName = (typeof NOTED)[keyof typeof NOTED] | "open /dev/kvm" | "KVM_RUN";

export interface Call {
	readonly name: NotedName;
	readonly args: readonly unknown[];
}

export class Recording {
	/** In their order. */
	readonly calls: Call[] = [];
	readonly exits: Exit[] = [];
	readonly starts: VcpuStart[] = [];
	/** The slots that have RAM. */
	readonly slots = new Map<number, MemorySlot>();
	/** Standard output. */
	printed = "";
	/** Called at each call and each exit, by its name. */
	onSeen: ((name: string) => void) | undefined;
	/** Called at each exit, before the program handles it. */
	onExit: (() => void) | undefined;
	readonly #opened = new Map<object, string>();
	readonly #rams: GuestRam[] = [];
	readonly #vcpus: Vcpu[] = [];

	called(name: NotedName): boolean {
		return this.calls.some((call) => call.name === name);
	}

	/** "vCPU 0", "the VM": what was opened and not closed. */
	get open(): string[] {
		return [...this.#opened.values()];
	}

	/** The RAM of the machine now, by guest-physical address. What was closed is not there. */
	ram(): Map<number, Uint8Array> {
		const found = new Map<number, Uint8Array>();
		for (const { gpa, hva, sizeBytes } of this.slots.values()) {
			for (const region of this.#rams.flatMap((ram) => ram.regions)) {
				const at = hva - region.hva;
				if (at < 0 || at + sizeBytes > region.buffer.byteLength) continue;
				found.set(gpa, new Uint8Array(region.buffer, at, sizeBytes));
			}
		}
		return found;
	}

	/** Notes what this process does from now on. @returns the modules for the program */
	observe(modules: PackageModules): PackageModules {
		this.#notePrinting();
		this.#noteCalls();
		const note = this;
		class ObservedRunLoop extends RunLoop {
			constructor(maxVcpus: number, events: RunLoopEvents) {
				super(maxVcpus, note.#wrap(events));
				note.#opened.set(this, "the run loop");
			}
			override start(index: number, fd: number, runBytes: number): void {
				note.#starts(fd);
				try {
					super.start(index, fd, runBytes);
				} catch (error) {
					throw new Error(`Cannot start vCPU ${index}: ${explain(error)}`, { cause: error });
				}
			}
			override close(): void {
				note.#opened.delete(this);
				super.close();
			}
		}
		const kvm = async () => ({ ...(await modules["tsvmm/kvm"]!()), RunLoop: ObservedRunLoop });
		return { ...modules, "tsvmm/kvm": kvm };
	}

	#notePrinting(): void {
		const write = process.stdout.write.bind(process.stdout);
		process.stdout.write = (chunk: string | Uint8Array, ...rest: unknown[]) => {
			this.printed += typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
			return (write as (...args: unknown[]) => boolean)(chunk, ...rest);
		};
	}

	#noteCalls(): void {
		wrap(Kvm, "open", (kvm) => {
			this.#call("open /dev/kvm", []);
			this.#opened.set(kvm, "/dev/kvm");
		});
		for (const type of [Kvm, Vm, Vcpu]) {
			for (const [method, name] of Object.entries(NOTED)) {
				if (Object.hasOwn(type.prototype, method))
					wrap(type.prototype, method, (made, args) => this.#note(name, args, made));
			}
			wrap(type.prototype, "close", (_made, _args, self) => void this.#opened.delete(self));
		}
		wrap(GuestRam, "map", (ram) => {
			this.#rams.push(ram as GuestRam);
			this.#opened.set(ram, "the RAM");
		});
		wrap(GuestRam.prototype, "close", (_made, _args, self) => void this.#opened.delete(self));
	}

	#call(name: NotedName, args: readonly unknown[]): void {
		this.calls.push({ name, args });
		this.onSeen?.(name);
	}

	#note(name: NotedName, args: readonly unknown[], made: object): void {
		this.#call(name, args);
		if (made instanceof Vm) this.#opened.set(made, "the VM");
		if (made instanceof Vcpu) {
			this.#vcpus.push(made);
			this.#opened.set(made, `vCPU ${made.id}`);
		}
		if (name !== "KVM_SET_USER_MEMORY_REGION") return;
		const slot = args[0] as MemorySlot;
		if (slot.sizeBytes === 0) this.slots.delete(slot.slot);
		else this.slots.set(slot.slot, slot);
	}

	#starts(fd: number): void {
		this.#call("KVM_RUN", []);
		const vcpu = this.#vcpus.findLast((candidate) => isOf(candidate, fd));
		if (vcpu === undefined) return;
		const ram = new Map([...this.ram()].map(([gpa, bytes]) => [gpa, bytes.slice(0, 1 << 20)]));
		this.starts.push({ regs: vcpu.getRegs(), sregs: vcpu.getSregs(), ram });
	}

	#wrap(events: RunLoopEvents): RunLoopEvents {
		return {
			onExit: (index, run) => {
				const exit = exitOf(index, run);
				this.exits.push(exit);
				this.onSeen?.(exitName(exit.reason));
				this.onExit?.();
				return events.onExit(index, run);
			},
			onPosted: (...args) => events.onPosted(...args),
			onFailed: (index, errno) => events.onFailed(index, errno),
		};
	}
}

function isOf(vcpu: Vcpu, fd: number): boolean {
	try {
		return vcpu.fd === fd;
	} catch {
		return false; /* It was closed. */
	}
}

/** Calls `note` after each call of a method with what it returned. */
function wrap(owner: object, method: string, note: (made: object, args: unknown[], self: object) => void): void {
	const methods = owner as Record<string, (...args: unknown[]) => unknown>;
	const original = methods[method]!;
	methods[method] = function (this: object, ...args: unknown[]) {
		const made = original.apply(this, args);
		note(made as object, args, this);
		return made;
	};
}

/** Reads an exit out of struct kvm_run. */
export function exitOf(vcpu: number, run: DataView): Exit {
	const reason = run.getUint32(kvm_run.exit_reason, true);
	if (reason === KVM_EXIT_IO) {
		const at = kvm_run.io;
		return {
			vcpu,
			reason,
			port: run.getUint16(at + kvm_run_io.port, true),
			isWrite: run.getUint8(at + kvm_run_io.direction) === KVM_EXIT_IO_OUT,
			size: run.getUint8(at + kvm_run_io.size),
			count: run.getUint32(at + kvm_run_io.count, true),
		};
	}
	if (reason !== KVM_EXIT_MMIO) return { vcpu, reason };
	const at = kvm_run.mmio;
	return {
		vcpu,
		reason,
		address: Number(run.getBigUint64(at + kvm_run_mmio.phys_addr, true)),
		isWrite: run.getUint8(at + kvm_run_mmio.is_write) !== 0,
		size: run.getUint32(at + kvm_run_mmio.len, true),
	};
}
