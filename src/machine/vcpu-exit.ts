/*
 * Handles a vCPU's exits, which come from the native run loop. Port and MMIO accesses go to their bus. Everything else
 * ends the machine, unless a debugger has asked for it. kvm_run is read and written in place (KVM api.rst §5); the vCPU
 * waits until `handle` returns, or until the promise that it gives resolves.
 */
import type { Bus } from "../base/bus.ts";
import { Observers } from "../base/observer.ts";
import { getU64 } from "../base/u64.ts";
import {
	KVM_EXIT_INTR,
	KVM_EXIT_IO,
	KVM_EXIT_IO_OUT,
	KVM_EXIT_MMIO,
	KVM_SYSTEM_EVENT_RESET,
	KVM_SYSTEM_EVENT_SHUTDOWN,
} from "../kvm/constants.ts";
import { type FinalExit, finalExit } from "../kvm/final-exit.ts";
import { kvm_run, kvm_run_io, kvm_run_mmio } from "../kvm/structs.ts";
import type { DebugPort } from "./debug-port.ts";
import type { ShutdownReason } from "./shutdown-reason.ts";

/** The parts that exits reach. */
export interface ExitOptions {
	readonly pio: Bus;
	readonly mmio: Bus;
	/** Ends the machine. */
	readonly end: (end: ShutdownReason) => void;
	/** The instruction pointer of a vCPU, for messages; undefined when it is unknown. */
	readonly ripOf?: (vcpu: number) => bigint | undefined;
	/** Nobody when missing. */
	readonly observers?: Observers;
	/** For exits that a debugger has asked for. */
	readonly debug?: DebugPort;
}

export class ExitHandler {
	readonly #pio: Bus;
	readonly #mmio: Bus;
	readonly #end: (end: ShutdownReason) => void;
	readonly #ripOf: (vcpu: number) => bigint | undefined;
	readonly #observers: Observers;
	readonly #debug: DebugPort | undefined;

	constructor({ pio, mmio, end, ripOf = () => undefined, observers = new Observers(), debug }: ExitOptions) {
		this.#pio = pio;
		this.#mmio = mmio;
		this.#end = end;
		this.#ripOf = ripOf;
		this.#observers = observers;
		this.#debug = debug;
	}

	/**
	 * Handles the exit of vCPU `index`. False: the machine ends, and the vCPU stays in its exit. A promise: the vCPU
	 * stays until it resolves, and then runs on.
	 */
	handle(index: number, run: DataView): boolean | Promise<void> {
		const reason = run.getUint32(kvm_run.exit_reason, true);
		this.#observers.observer?.exit?.(index, reason);
		switch (reason) {
			case KVM_EXIT_IO:
				this.#port(run);
				return true;
			case KVM_EXIT_MMIO:
				return this.#memory(run) ?? true;
			case KVM_EXIT_INTR:
				return true; /* kicked; whether it runs on is the machine's decision */
			default:
				if (this.#debug?.exit(index, run) === true) return true;
				this.#end(this.#reasonOf(index, finalExit(run)));
				return false;
		}
	}

	/** What a machine ends with whose vCPU `index` cannot run on. */
	#reasonOf(index: number, exit: FinalExit): ShutdownReason {
		switch (exit.kind) {
			case "shutdown":
				return { reason: "triple-fault", detail: this.#where(index) };
			case "system-event":
				return systemEvent(exit.type);
			case "fail-entry": {
				const found = `cannot enter the guest: hardware reason 0x${exit.hardwareReason.toString(16)}`;
				return { reason: "kvm-error", detail: `${this.#where(index)}: ${found}` };
			}
			case "internal-error":
				return { reason: "kvm-error", detail: `${this.#where(index)}: ${internalError(exit)}` };
			case "unknown":
				return { reason: "kvm-error", detail: `${this.#where(index)}: exit reason ${exit.reason}` };
		}
	}

	/** "vCPU 0 at rip 0x1000000". After a triple fault on SVM that is the reset vector: KVM has reset the vCPU. */
	#where(index: number): string {
		const rip = this.#ripOf(index);
		return rip === undefined ? `vCPU ${index}` : `vCPU ${index} at rip 0x${rip.toString(16)}`;
	}

	/** `count` values of `size` bytes, in a row in kvm_run (rep ins/outs give a count above 1). */
	#port(run: DataView): void {
		const io = kvm_run.io;
		const size = run.getUint8(io + kvm_run_io.size);
		const port = run.getUint16(io + kvm_run_io.port, true);
		const count = run.getUint32(io + kvm_run_io.count, true);
		const out = run.getUint8(io + kvm_run_io.direction) === KVM_EXIT_IO_OUT;
		const data = run.byteOffset + run.getUint32(io + kvm_run_io.data_offset, true);
		for (let i = 0; i < count; i++) {
			const value = new Uint8Array(run.buffer, data + i * size, size);
			if (out) void this.#pio.write(port, value);
			else this.#pio.read(port, value);
		}
	}

	#memory(run: DataView): Promise<void> | undefined {
		const mmio = kvm_run.mmio;
		const address = getU64(run, mmio + kvm_run_mmio.phys_addr);
		const length = run.getUint32(mmio + kvm_run_mmio.len, true);
		const value = new Uint8Array(run.buffer, run.byteOffset + mmio + kvm_run_mmio.data, length);
		if (run.getUint8(mmio + kvm_run_mmio.is_write) !== 0) {
			const done = this.#mmio.write(address, value);
			return done instanceof Promise ? done : undefined;
		}
		this.#mmio.read(address, value);
		return undefined;
	}
}

function systemEvent(type: number): ShutdownReason {
	if (type === KVM_SYSTEM_EVENT_SHUTDOWN) return { reason: "power-off" };
	if (type === KVM_SYSTEM_EVENT_RESET) return { reason: "reset" };
	return { reason: "kvm-error", detail: `system event ${type}` };
}

const SUBERRORS = [
	"unknown",
	"emulation failed",
	"simultaneous exceptions",
	"event delivery failed",
	"unexpected exit",
];

function internalError({ suberror, instruction }: Extract<FinalExit, { kind: "internal-error" }>): string {
	const text = `internal error ${suberror} (${SUBERRORS[suberror] ?? "unknown"})`;
	return instruction === undefined ? text : `${text}, instruction bytes ${instruction.toString("hex")}`;
}
