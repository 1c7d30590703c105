/*
 * How a machine ends. The first cause wins: a guest that panics and then resets has panicked.
 */
import { GuestError, TsvmmError } from "../base/errors.ts";

/**
 * What ended the machine. "stopped": the host did (`machine.stop()`, a signal). "device-failed": a device has thrown,
 * which is a defect of tsvmm and not the guest's fault. "start-failed": the host refused a thread for a vCPU.
 */
export type ShutdownCause =
	| "power-off"
	| "reset"
	| "panic"
	| "triple-fault"
	| "kvm-error"
	| "device-failed"
	| "start-failed"
	| "stopped";

/** How a machine ended. An end is data and not an error. `shutdownError` makes an error of it. */
export interface ShutdownReason {
	/** What ended it. */
	readonly reason: ShutdownCause;
	/** One clause for a message: the panic's own line, the vCPU's registers, the errno. */
	readonly detail?: string;
}

/** One line for the user: "guest powered off", "guest kernel panic: VFS: Unable to mount root fs". */
export function describeShutdown({ reason, detail }: ShutdownReason): string {
	const words: Record<ShutdownCause, string> = {
		"power-off": "guest powered off",
		reset: "guest asked for a reset",
		panic: "guest kernel panic",
		"triple-fault": "guest triple fault",
		"kvm-error": "KVM cannot run the guest any further",
		"device-failed": "tsvmm failed at one of its devices",
		"start-failed": "machine did not start",
		stopped: "machine stopped",
	};
	return detail === undefined ? words[reason] : `${words[reason]}: ${detail}`;
}

/**
 * The error for an end that was not in order. Undefined for power-off, reset, stop, and a failure that `start` has
 * thrown.
 */
export function shutdownError(end: ShutdownReason): TsvmmError | undefined {
	if (end.reason === "device-failed") return new TsvmmError("ERR_DEVICE_FAILED", describeShutdown(end));
	const code = { panic: "ERR_GUEST_PANIC", "triple-fault": "ERR_GUEST_TRIPLE_FAULT", "kvm-error": "ERR_GUEST_KVM" };
	if (end.reason !== "panic" && end.reason !== "triple-fault" && end.reason !== "kvm-error") return undefined;
	return new GuestError(code[end.reason], describeShutdown(end));
}
