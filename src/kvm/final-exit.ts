/*
 * The exits after which a vCPU does not run on (KVM api.rst §5), decoded from kvm_run. They are rare, so each is an
 * object. Exits of accesses are frequent and read in place (machine/vcpu-exit.ts).
 */
import {
	KVM_EXIT_FAIL_ENTRY,
	KVM_EXIT_INTERNAL_ERROR,
	KVM_EXIT_SHUTDOWN,
	KVM_EXIT_SYSTEM_EVENT,
	KVM_INTERNAL_ERROR_EMULATION,
} from "./constants.ts";
import {
	kvm_run,
	kvm_run_emulation_failure,
	kvm_run_fail_entry,
	kvm_run_internal,
	kvm_run_system_event,
} from "./structs.ts";

/** Why a vCPU cannot run on. */
export type FinalExit =
	/** A triple fault. */
	| { readonly kind: "shutdown" }
	/** `type` is one of KVM_SYSTEM_EVENT_*. */
	| { readonly kind: "system-event"; readonly type: number }
	/** The processor refuses the guest's state. */
	| { readonly kind: "fail-entry"; readonly hardwareReason: bigint }
	/** KVM gives up. It may give the bytes of an instruction that it cannot emulate. */
	| { readonly kind: "internal-error"; readonly suberror: number; readonly instruction: Buffer | undefined }
	/** An exit that KVM makes only on request. */
	| { readonly kind: "unknown"; readonly reason: number };

/** Longest instruction of x86, in bytes. */
const MAX_INSTRUCTION_BYTES = 15;

/** Decodes the exit that a vCPU waits in. */
export function finalExit(run: DataView): FinalExit {
	const reason = run.getUint32(kvm_run.exit_reason, true);
	switch (reason) {
		case KVM_EXIT_SHUTDOWN:
			return { kind: "shutdown" };
		case KVM_EXIT_SYSTEM_EVENT:
			return { kind: "system-event", type: run.getUint32(kvm_run.system_event + kvm_run_system_event.type, true) };
		case KVM_EXIT_FAIL_ENTRY: {
			const at = kvm_run.fail_entry + kvm_run_fail_entry.hardware_entry_failure_reason;
			return { kind: "fail-entry", hardwareReason: run.getBigUint64(at, true) };
		}
		case KVM_EXIT_INTERNAL_ERROR: {
			const suberror = run.getUint32(kvm_run.internal + kvm_run_internal.suberror, true);
			return { kind: "internal-error", suberror, instruction: instructionOf(run, suberror) };
		}
		default:
			return { kind: "unknown", reason };
	}
}

function instructionOf(run: DataView, suberror: number): Buffer | undefined {
	const at = kvm_run.internal;
	const bytes = run.getUint8(at + kvm_run_emulation_failure.insn_size);
	const told = run.getUint32(at + kvm_run_internal.ndata, true) >= 3 && bytes <= MAX_INSTRUCTION_BYTES;
	if (suberror !== KVM_INTERNAL_ERROR_EMULATION || !told) return undefined;
	const start = run.byteOffset + at + kvm_run_emulation_failure.insn_bytes;
	return Buffer.from(run.buffer as ArrayBuffer, start, bytes);
}
