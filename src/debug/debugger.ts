/*
 * The debugger of a machine: all vCPUs stop together, then registers and memory can be read and written, then all or some
 * run on. GDB's server (gdb/) and the inspector are on top of it, and may share it.
 *
 *     running -- stop(), a breakpoint, Machine.pause --> stopped (onStop says why) -- resume(), step() --> running
 *
 * It costs nothing until it is made, and a vCPU without breakpoints that does not step runs as without it.
 */
import { StateError, UsageError } from "../base/errors.ts";
import {
	KVM_EXIT_DEBUG,
	KVM_EXIT_INTERNAL_ERROR,
	KVM_GUESTDBG_BLOCKIRQ,
	KVM_GUESTDBG_ENABLE,
	KVM_GUESTDBG_INJECT_BP,
	KVM_GUESTDBG_INJECT_DB,
	KVM_GUESTDBG_SINGLESTEP,
} from "../kvm/constants.ts";
import type { KvmRegs, KvmSregs } from "../kvm/struct-view.ts";
import { kvm_debug_exit_arch, kvm_run } from "../kvm/structs.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import type { DebugAccess } from "../machine/debug-port.ts";
import type { Machine } from "../machine/machine.ts";
import { Breakpoints, type HardwareKind, type HardwarePoint } from "./breakpoints.ts";
import { type PageWalk, walkPages } from "./page-walk.ts";

/** Why the machine has stopped. */
export type Stop =
	/** Somebody paused it. */
	| { readonly kind: "pause" }
	/** vCPU `vcpu` has done one instruction. */
	| { readonly kind: "step"; readonly vcpu: number }
	/** vCPU `vcpu` is about to execute the instruction at `address`. */
	| { readonly kind: "breakpoint"; readonly vcpu: number; readonly address: bigint; readonly hardware: boolean }
	/** vCPU `vcpu` has accessed what is watched at `address`. */
	| {
			readonly kind: "watchpoint";
			readonly vcpu: number;
			readonly address: bigint;
			readonly access: Exclude<HardwareKind, "execute">;
	  };

/** What a vCPU does at a resume. */
export type VcpuAction = "continue" | "step";

const DB_VECTOR = 1;
const BP_VECTOR = 3;
/** DR6: the four debug registers, and a single step. */
const DR6_REGISTERS = 0xfn;
const DR6_BS = 1n << 14n;
const INT3 = 0xcc;
const PAGE_BYTES = 4096n;

const debuggers = new WeakMap<Machine, MachineDebugger>();

export class MachineDebugger {
	readonly machine: Machine;
	readonly breakpoints: Breakpoints;
	readonly #access: DebugAccess;
	readonly #listeners = new Set<(stop: Stop) => void>();
	readonly #resumed = new Set<() => void>();
	/** Stops that nobody was told yet. */
	#pending: Stop[] = [];
	readonly #stepping = new Set<number>();
	/** What each vCPU was told last by KVM_SET_GUEST_DEBUG. */
	readonly #told = new Map<number, string>();
	readonly #stepFlags: number;

	/** The debugger of `machine`: always the same one. */
	static of(machine: Machine): MachineDebugger {
		const known = debuggers.get(machine) ?? new MachineDebugger(machine);
		debuggers.set(machine, known);
		return known;
	}

	private constructor(machine: Machine) {
		this.machine = machine;
		this.breakpoints = new Breakpoints(machine.memory);
		this.#access = machine.debug;
		const known = this.#access.kvm.checkExtension("KVM_CAP_SET_GUEST_DEBUG2");
		this.#stepFlags = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | (known & KVM_GUESTDBG_BLOCKIRQ);
		this.#access.port.attached = { exit: (vcpu, run) => this.#exit(vcpu, run), lift: () => this.breakpoints.lift() };
		machine.on("paused", () => this.#stopped());
		machine.on("resumed", () => {
			for (const listener of this.#resumed) listener();
		});
	}

	/** How many vCPUs the machine has. */
	get cpus(): number {
		return this.#access.vcpus.length;
	}

	/** Registers and memory can be read and written now: also before the start. */
	get isStopped(): boolean {
		return this.machine.state === "paused" || this.machine.state === "created";
	}

	/**
	 * Stops the machine, and resolves when it has stopped, as Machine.pause does.
	 *
	 * @throws StateError ERR_MACHINE_STATE when it has ended
	 */
	async stop(): Promise<void> {
		await this.machine.pause();
	}

	/**
	 * Lets vCPUs run on.
	 *
	 * @param actions what each of them does; a vCPU without one stays stopped. All continue when it is missing
	 * @throws StateError ERR_DEBUG_RUNNING when it runs; what Machine.resume throws
	 */
	resume(actions?: ReadonlyMap<number, VcpuAction>): void {
		this.#mustStop("resume the machine");
		/* A breakpoint is met again, when it is still there. */
		this.#pending = this.#pending.filter((stop) => stop.kind === "watchpoint");
		if (this.#pending.length > 0) {
			const told = this.#pending;
			queueMicrotask(() => told === this.#pending && this.isStopped && this.#stopped());
			return;
		}
		const all = this.#access.vcpus;
		this.#stepping.clear();
		for (const [vcpu, action] of actions ?? []) if (action === "step") this.#stepping.add(vcpu);
		this.#prepareAll();
		const some = actions !== undefined && actions.size < all.length ? new Set(actions.keys()) : undefined;
		this.#access.resume(some);
	}

	/** Lets vCPU `vcpu` do one instruction while the others stay. `onStop` follows. @throws as `resume` does */
	step(vcpu: number): void {
		this.#vcpu(vcpu, "step");
		this.resume(new Map([[vcpu, "step"]]));
	}

	/** Calls `listener` at each stop. Returns what ends that. */
	onStop(listener: (stop: Stop) => void): () => void {
		this.#listeners.add(listener);
		return () => this.#listeners.delete(listener);
	}

	/** Calls `listener` at each resume, also at one that others ask for. Returns what ends that. */
	onResume(listener: () => void): () => void {
		this.#resumed.add(listener);
		return () => this.#resumed.delete(listener);
	}

	/** General registers of a stopped vCPU, a copy. @throws StateError ERR_DEBUG_RUNNING, UsageError ERR_DEBUG_VCPU */
	regs(vcpu: number): KvmRegs {
		return this.#vcpu(vcpu, "read registers of").getRegs();
	}

	/** @throws as `regs` does; IoctlError for values that KVM refuses */
	setRegs(vcpu: number, regs: KvmRegs): void {
		this.#vcpu(vcpu, "write registers of").setRegs(regs);
	}

	/** Segments and control registers of a stopped vCPU, a copy. @throws as `regs` does */
	sregs(vcpu: number): KvmSregs {
		return this.#vcpu(vcpu, "read registers of").getSregs();
	}

	/** The vCPU itself, for state that is rarely wanted. It is used only while it is stopped. @throws as `regs` does */
	vcpu(vcpu: number): Vcpu {
		return this.#vcpu(vcpu, "look at");
	}

	/** How a virtual address of a stopped vCPU is translated. @throws as `regs` does */
	walk(vcpu: number, address: bigint): PageWalk {
		return walkPages(this.machine.memory, this.sregs(vcpu), address);
	}

	/**
	 * Reads memory by virtual address, as the guest would see it without our breakpoints. It is shorter than `length` when
	 * what follows is not mapped, or is not RAM.
	 *
	 * @throws as `regs` does
	 */
	readVirtual(vcpu: number, address: bigint, length: number): Buffer {
		const bytes = Buffer.alloc(length);
		const done = this.#eachPage(vcpu, address, length, (gpa, at, count) => {
			bytes.set(this.readPhysical(gpa, count), at);
		});
		return bytes.subarray(0, done);
	}

	/** Writes memory by virtual address, also where the guest may not. @returns how many bytes, as `readVirtual` */
	writeVirtual(vcpu: number, address: bigint, bytes: Uint8Array): number {
		return this.#eachPage(vcpu, address, bytes.length, (gpa, at, count) => {
			this.writePhysical(gpa, bytes.subarray(at, at + count));
		});
	}

	/** Reads RAM without our breakpoints, also while the machine runs. @throws MemoryAccessError outside RAM */
	readPhysical(gpa: number, length: number): Buffer {
		const bytes = Buffer.alloc(length);
		for (let done = 0; done < length; ) {
			const window = this.machine.memory.find(gpa + done, 1);
			const count = window === undefined ? 1 : Math.min(length - done, window.end - gpa - done);
			bytes.set(this.machine.memory.bytes(gpa + done, count), done);
			done += count;
		}
		this.breakpoints.hide(gpa, bytes);
		return bytes;
	}

	/** Writes RAM and leaves our breakpoints where they are. @returns how many bytes: all, or none when it is not all RAM */
	writePhysical(gpa: number, bytes: Uint8Array): number {
		if (!this.machine.memory.contains(gpa, bytes.length)) return 0;
		this.machine.memory.write(gpa, bytes);
		this.breakpoints.written(gpa, bytes.length);
		return bytes.length;
	}

	/**
	 * Sets a breakpoint: INT3 in memory, or a debug register where no RAM is mapped yet, as before the kernel has its page
	 * tables. All vCPUs stop there. Setting it twice is setting it once.
	 *
	 * @param vcpu in whose address space
	 * @throws as `regs` does; UsageError, StateError ERR_DEBUG_BREAKPOINT
	 */
	setBreakpoint(vcpu: number, address: bigint): void {
		const { gpa } = this.walk(vcpu, address);
		mustHaveBreakpoints();
		if (gpa !== undefined && this.machine.memory.contains(gpa, 1)) this.breakpoints.addSoftware(address, gpa);
		else this.breakpoints.addHardware({ kind: "execute", address, bytes: 1 });
		this.#prepareAll();
	}

	/** False: there is none. @throws StateError ERR_DEBUG_RUNNING */
	removeBreakpoint(address: bigint): boolean {
		this.#mustStop("remove a breakpoint");
		const soft = this.breakpoints.removeSoftware(address);
		const hard = this.breakpoints.removeHardware({ kind: "execute", address, bytes: 1 });
		this.#prepareAll();
		return soft || hard;
	}

	/** Takes a debug register. @throws StateError ERR_DEBUG_RUNNING, ERR_DEBUG_BREAKPOINT; UsageError ERR_DEBUG_BREAKPOINT */
	setHardware(point: HardwarePoint): void {
		this.#mustStop("set a breakpoint");
		mustHaveBreakpoints();
		this.breakpoints.addHardware(point);
		this.#prepareAll();
	}

	/** False: there is none. @throws StateError ERR_DEBUG_RUNNING */
	removeHardware(point: HardwarePoint): boolean {
		this.#mustStop("remove a breakpoint");
		const removed = this.breakpoints.removeHardware(point);
		this.#prepareAll();
		return removed;
	}

	/** Removes all breakpoints. Does nothing when the machine has ended. @throws StateError ERR_DEBUG_RUNNING */
	clearBreakpoints(): void {
		if (this.machine.state === "ended") return;
		this.#mustStop("remove breakpoints");
		this.breakpoints.clear();
		this.#pending = [];
		this.#prepareAll();
	}

	/** The machine's, see DebugPort. */
	#exit(index: number, run: DataView): "stop" | "run" | undefined {
		const reason = run.getUint32(kvm_run.exit_reason, true);
		if (reason === KVM_EXIT_INTERNAL_ERROR) return this.#gaveUp(index);
		if (reason !== KVM_EXIT_DEBUG) return undefined;
		const at = kvm_run.debug;
		const exception = run.getUint32(at + kvm_debug_exit_arch.exception, true);
		const pc = run.getBigUint64(at + kvm_debug_exit_arch.pc, true);
		if (exception === BP_VECTOR) {
			const gpa = this.#gpaOf(index, pc);
			if (this.breakpoints.isSoftware(gpa)) {
				return this.#stopAt({ kind: "breakpoint", vcpu: index, address: pc, hardware: false });
			}
			/* One that was removed meanwhile is no instruction of the guest. */
			const isGuests = gpa !== undefined && this.machine.memory.u8(gpa) === INT3;
			if (isGuests) this.#prepare(index, KVM_GUESTDBG_INJECT_BP);
			return "run";
		}
		const dr6 = run.getBigUint64(at + kvm_debug_exit_arch.dr6, true);
		const stop = exception === DB_VECTOR ? this.#debugException(index, pc, dr6) : undefined;
		if (stop !== undefined) return this.#stopAt(stop);
		if ((dr6 & DR6_BS) !== 0n && !this.#stepping.has(index)) this.#prepare(index, KVM_GUESTDBG_INJECT_DB);
		return "run";
	}

	/** What a #DB of ours means. */
	#debugException(vcpu: number, pc: bigint, dr6: bigint): Stop | undefined {
		for (let i = 0; i < 4; i++) {
			if ((dr6 & DR6_REGISTERS & (1n << BigInt(i))) === 0n) continue;
			const point = this.breakpoints.hardware(i);
			if (point === undefined) continue;
			const { kind, address } = point;
			if (kind === "execute") return { kind: "breakpoint", vcpu, address: pc, hardware: true };
			return { kind: "watchpoint", vcpu, address, access: kind };
		}
		return (dr6 & DR6_BS) !== 0n && this.#stepping.has(vcpu) ? { kind: "step", vcpu } : undefined;
	}

	/** A KVM that interprets the guest's kernel may not know INT3: it gives up at ours. */
	#gaveUp(vcpu: number): "stop" | undefined {
		const address = this.#access.vcpus[vcpu]!.getRegs().rip;
		if (!this.breakpoints.isSoftware(this.#gpaOf(vcpu, address))) return undefined;
		return this.#stopAt({ kind: "breakpoint", vcpu, address, hardware: false });
	}

	/** Where the code of a vCPU is in RAM, while it is out of the guest. */
	#gpaOf(vcpu: number, address: bigint): number | undefined {
		const { memory } = this.machine;
		const { gpa } = walkPages(memory, this.#access.vcpus[vcpu]!.getSregs(), address);
		return gpa !== undefined && memory.contains(gpa, 1) ? gpa : undefined;
	}

	#stopAt(stop: Stop): "stop" {
		this.#pending.push(stop);
		/* It rejects only when the machine has ended. */
		this.machine.pause().catch(() => undefined);
		return "stop";
	}

	/** All vCPUs have stopped. */
	#stopped(): void {
		const [first = { kind: "pause" } as const, ...rest] = this.#pending;
		this.#pending = rest;
		/* The next resume may be that of others, who want no step. */
		this.#stepping.clear();
		this.#prepareAll();
		for (const listener of [...this.#listeners]) listener(first);
	}

	/** Also when others resume the machine, its vCPUs stop where they have to. */
	#prepareAll(): void {
		for (const index of this.#access.vcpus.keys()) this.#prepare(index);
	}

	/** Tells KVM what vCPU `index`, which is out of the guest, is to stop at. */
	#prepare(index: number, inject = 0): void {
		const step = this.#stepping.has(index) ? this.#stepFlags : 0;
		const control = this.breakpoints.control | step;
		const registers = this.breakpoints.debugRegisters;
		const key = `${control} ${registers.join(" ")}`;
		/* A vCPU that was never told anything stops at nothing. */
		const isNew = this.#told.has(index) ? this.#told.get(index) !== key : control !== 0;
		if (!isNew && inject === 0) return;
		this.#access.vcpus[index]!.setGuestDebug(control | (inject === 0 ? 0 : inject | KVM_GUESTDBG_ENABLE), registers);
		this.#told.set(index, key);
	}

	/** Calls `each` for each part of a page that is RAM. Returns how many bytes those have. */
	#eachPage(
		vcpu: number,
		address: bigint,
		length: number,
		each: (gpa: number, at: number, count: number) => void,
	): number {
		const { memory } = this.machine;
		const sregs = this.sregs(vcpu);
		let done = 0;
		while (done < length) {
			const from = BigInt.asUintN(64, address + BigInt(done));
			const count = Math.min(length - done, Number(PAGE_BYTES - (from % PAGE_BYTES)));
			const { gpa } = walkPages(memory, sregs, from);
			if (gpa === undefined || !memory.contains(gpa, count)) break;
			each(gpa, done, count);
			done += count;
		}
		return done;
	}

	#vcpu(index: number, what: string): Vcpu {
		this.#mustStop(`${what} vCPU ${index}`);
		const vcpu = this.#access.vcpus[index];
		if (vcpu !== undefined) return vcpu;
		throw new UsageError("ERR_DEBUG_VCPU", `Cannot ${what} vCPU ${index}: the machine has ${this.cpus}`);
	}

	#mustStop(what: string): void {
		if (this.isStopped) return;
		const ended = this.machine.state === "ended";
		throw new StateError("ERR_DEBUG_RUNNING", `Cannot ${what}: the machine ${ended ? "has ended" : "runs"}`, {
			hint: ended ? undefined : "Stop it first",
		});
	}
}

/** QEMU's emulation of SVM, on which the lab's KVM runs, tells KVM neither of INT3 nor of debug registers. */
function mustHaveBreakpoints(): void {
	if (process.env.TSVMM_LAB !== "1") return;
	throw new StateError("ERR_DEBUG_BREAKPOINT", "Cannot set a breakpoint: the lab's emulated processor stops at none", {
		hint: "Use a host with KVM, or interrupt the guest and step",
	});
}
