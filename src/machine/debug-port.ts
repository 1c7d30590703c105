/*
 * Where a debugger (src/debug) connects to a machine. Without one an exit of KVM_EXIT_DEBUG ends the machine as every
 * exit that nobody asked for.
 *
 *     vCPU exits for a debugger -> ExitHandler -> DebugPort.exit -> the debugger: "stop" -> Machine.pause, which parks it
 *                                                                                "run"  -> it runs on
 */
import { KVM_EXIT_INTR } from "../kvm/constants.ts";
import { kvm_run } from "../kvm/structs.ts";
import type { Kvm } from "../kvm/system.ts";
import type { Vcpu } from "../kvm/vcpu.ts";

/** A debugger. Its methods are called on the JavaScript thread. */
export interface AttachedDebugger {
	/**
	 * vCPU `vcpu` is in an exit that no part of the machine knows. "stop": the exit was for the debugger, which pauses the
	 * machine. "run": it was for the debugger, and the vCPU runs on. Undefined: it was for nobody.
	 */
	exit(vcpu: number, run: DataView): "stop" | "run" | undefined;
	/** Takes what the debugger has written out of the guest's memory, which is about to be saved. Returns what undoes that. */
	lift(): () => void;
}

/** What a debugger gets of a machine. */
export interface DebugAccess {
	readonly port: DebugPort;
	readonly vcpus: readonly Vcpu[];
	readonly kvm: Kvm;
	/** As Machine.resume, but only these vCPUs run. */
	resume(only?: ReadonlySet<number>): void;
}

export class DebugPort {
	/** One at a time. */
	attached: AttachedDebugger | undefined;

	/**
	 * Offers the exit to the debugger. False: it is not for it. After a stop the vCPU is between two instructions, as
	 * after a kick, and the exit says so: the machine's pause parks it.
	 */
	exit(vcpu: number, run: DataView): boolean {
		const answer = this.attached?.exit(vcpu, run);
		if (answer === "stop") run.setUint32(kvm_run.exit_reason, KVM_EXIT_INTR, true);
		return answer !== undefined;
	}
}
