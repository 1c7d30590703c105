/*
 * How a machine ends. The first cause wins: a guest that panics and then resets has panicked.
 */
import { GuestError, TsvmmError } from "../base/errors.ts";
import { printable } from "../base/printable.ts";
import { type SavedState, type Stateful, StateReader } from "../base/state.ts";

/**
 * What ended the machine. "stopped" is the host's own wish (`machine.stop()`, a signal); "device-failed" a device that
 * threw, which is a defect of tsvmm and not the guest's doing; "start-failed" a host that refused a vCPU its thread.
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

/** How a machine ended: an end is data, not an error. `shutdownError` makes one of it where one is wanted. */
export interface ShutdownReason {
	/** What ended it. */
	readonly reason: ShutdownCause;
	/** One clause for a message: the panic's own line, the vCPU's registers, the errno. */
	readonly detail?: string;
}

const EXIT_STATUS: Record<ShutdownCause, number> = {
	"power-off": 0,
	reset: 0,
	stopped: 0,
	panic: 101,
	"triple-fault": 102,
	"kvm-error": 103,
	"device-failed": 125,
	"start-failed": 125,
};

/** The exit status of `tsvmm boot` for an end (docs/errors.md). */
export function shutdownStatus(end: ShutdownReason): number {
	return EXIT_STATUS[end.reason];
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

/** The error for an end that is no orderly one; undefined for power-off, reset, stop and what `start` has thrown. */
export function shutdownError(end: ShutdownReason): TsvmmError | undefined {
	if (end.reason === "device-failed") return new TsvmmError("ERR_DEVICE_FAILED", describeShutdown(end));
	const code = { panic: "ERR_GUEST_PANIC", "triple-fault": "ERR_GUEST_TRIPLE_FAULT", "kvm-error": "ERR_GUEST_KVM" };
	if (end.reason !== "panic" && end.reason !== "triple-fault" && end.reason !== "kvm-error") return undefined;
	return new GuestError(code[end.reason], describeShutdown(end));
}

/**
 * Looks for the line "Kernel panic - not syncing: WHY" in the bytes of a serial console. It is how a panic is told
 * from an ordinary reset with kernels that have no pvpanic driver.
 */
export class PanicWatch implements Stateful {
	static readonly #MARK = "Kernel panic - not syncing: ";
	static readonly #LINE_CHARS = 512;
	readonly #onPanic: (why: string) => void;
	#line = "";
	/** Why the kernel panicked, once it has: printable text. */
	detail: string | undefined;

	/** @param onPanic is told why, once */
	constructor(onPanic: (why: string) => void = () => undefined) {
		this.#onPanic = onPanic;
	}

	/** Feeds the next bytes of console output. */
	write(bytes: Uint8Array): void {
		for (const byte of bytes) {
			if (byte !== 10) {
				if (this.#line.length < PanicWatch.#LINE_CHARS) this.#line += String.fromCharCode(byte);
				continue;
			}
			this.#inspect();
			this.#line = "";
		}
	}

	/** The line that has begun, and a panic that has been seen. */
	save(): SavedState {
		const { detail } = this;
		return { version: 1, line: this.#line, ...(detail === undefined ? {} : { detail }) };
	}

	restore(state: unknown): void {
		const reader = new StateReader("panic-watch", state).version(1);
		const line = reader.string("line", PanicWatch.#LINE_CHARS);
		/* Printable text is at most four times as long. */
		const detail = reader.has("detail") ? reader.string("detail", 4 * PanicWatch.#LINE_CHARS) : undefined;
		this.#line = line;
		this.detail = detail === undefined ? undefined : printable(detail);
	}

	#inspect(): void {
		const at = this.#line.indexOf(PanicWatch.#MARK);
		if (at < 0 || this.detail !== undefined) return;
		this.detail = printable(this.#line.slice(at + PanicWatch.#MARK.length).trimEnd());
		this.#onPanic(this.detail);
	}
}
