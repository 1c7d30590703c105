/*
 * Events of a running machine for an observer: one interface with optional methods, called where the events happen.
 * Without an observer each place costs one check for undefined:
 *
 *     this.#observers.observer?.kick?.(name, index);
 *
 * The event stream is one observer (trace/recorder.ts). Accesses that native code answers are not reported, unless an observer
 * with `access` was given when the machine was built (docs/architecture.md).
 */
import type { Segments } from "./segments.ts";
import type { StoppedState } from "./stopped-state.ts";

/** A descriptor chain, valid until `push` or `unpop` of it has returned. */
export interface ObservedChain {
	/** Index of its first descriptor. */
	readonly head: number;
	/** The part that the driver wrote for the device. */
	readonly readable: Segments;
	/** The part that the device writes. */
	readonly writable: Segments;
}

/** A virtio device, as it is told of when the machine is made. */
export interface ObservedDevice {
	/** Its id on the machine: "disk0". */
	readonly id: string;
	/** Its name in all other events: "virtio-blk0". */
	readonly name: string;
	/** Device ID, virtio 1.2 §5. */
	readonly deviceId: number;
	/** Guest-physical address of its registers. */
	readonly address: number;
	/** Its interrupt. */
	readonly gsi: number;
	/** Largest size of each queue. */
	readonly queues: readonly number[];
}

/** A step in a machine's life. */
export type MachineLife =
	| {
			/** It is wired, and nothing runs yet. */
			readonly state: "created";
			readonly cpus: number;
			readonly memoryMiB: number;
			/** Path of the kernel. */
			readonly kernel: string;
			/** All of it, with the machine's own parameters. */
			readonly cmdline: string;
			readonly devices: readonly ObservedDevice[];
			/** It goes on from a snapshot. */
			readonly restored: boolean;
	  }
	| { readonly state: "started" | "paused" | "resumed" }
	| { readonly state: "panic"; readonly detail?: string }
	| {
			readonly state: "ended";
			/** A ShutdownCause. */
			readonly reason: string;
			readonly detail?: string;
	  };

/**
 * Observes a machine. Each method is called on the JavaScript thread, in the middle of the event. It should be quick
 * and change nothing. An error that it throws ends the machine, as a device's defect does.
 */
export interface Observer {
	/** vCPU `vcpu` has exited for `reason` (KVM_EXIT_*). The exit is not handled yet. */
	exit?(vcpu: number, reason: number): void;
	/** vCPU `vcpu` goes back into the guest, its exit is handled. Not called for a vCPU that stays. */
	resume?(vcpu: number): void;
	/**
	 * The guest reads or writes a device, or "nothing" when none is there: after the device was read, or before it is
	 * written. A posted write is reported when it is delivered. `address` is a port or a guest-physical address, `size` is 1, 2 or 4 bytes.
	 */
	access?(bus: "pio" | "mmio", device: string, write: boolean, address: number, size: number, value: number): void;
	/** The driver has written the device status. `status` is the new value. */
	status?(device: string, status: number, driverFeatures: bigint): void;
	/** A notification of queue `queue` has arrived. It may stand for several kicks. */
	kick?(device: string, queue: number): void;
	/** The device has taken a chain. */
	pop?(device: string, queue: number, chain: ObservedChain): void;
	/** The device has put a chain back, as if it had not been popped. */
	unpop?(device: string, queue: number, head: number): void;
	/** The device has given a chain back with `written` bytes in it. The driver sees it at the device's next flush. */
	push?(device: string, queue: number, head: number, written: number): void;
	/**
	 * The device interrupts the guest. `cause` has the new bits of InterruptStatus. It is undefined for a plain interrupt
	 * line.
	 */
	interrupt?(device: string, cause: number | undefined): void;
	/** A backend has answered request `token` of a device. */
	complete?(device: string, token: number, result: string): void;
	/**
	 * The driver has broken a rule: `what` says which. It was ignored, or the device needs a reset.
	 */
	violation?(device: string, what: string, needsReset: boolean): void;
	/** The guest has written to its console by `device`. The bytes are valid during the call only. */
	console?(device: string, bytes: Uint8Array): void;
	/** All vCPUs stand still: at the machine's end before anything is released, or for a moment. */
	stopped?(state: StoppedState): void;
	/** A step in the machine's life. The end is told when everything is released. */
	machine?(life: MachineLife): void;
}

const EVENTS = Object.keys({
	exit: true,
	resume: true,
	access: true,
	status: true,
	kick: true,
	pop: true,
	unpop: true,
	push: true,
	interrupt: true,
	complete: true,
	violation: true,
	console: true,
	stopped: true,
	machine: true,
} satisfies Record<keyof Observer, true>) as (keyof Observer)[];

/** The observers of one machine, for all its parts. */
export class Observers {
	/** The observer to call, or undefined when there is none. Several observers are combined in one. */
	observer: Observer | undefined;
	#entries: readonly { readonly observer: Observer }[] = [];

	/** Adds an observer. Returns a function that removes it; a second call of that does nothing. */
	attach(observer: Observer): () => void {
		const own = { observer };
		this.#set([...this.#entries, own]);
		return () => this.#set(this.#entries.filter((entry) => entry !== own));
	}

	#set(entries: readonly { readonly observer: Observer }[]): void {
		this.#entries = entries;
		this.observer = fanOut(entries.map((entry) => entry.observer));
	}
}

/** One observer that calls all others. It has the methods that any of them has. */
export function fanOut(all: readonly Observer[]): Observer | undefined {
	if (all.length < 2) return all[0];
	const combined: Partial<Record<keyof Observer, (...args: unknown[]) => void>> = {};
	for (const event of EVENTS) {
		const listeners = all.filter((observer) => observer[event] !== undefined);
		if (listeners.length === 0) continue;
		combined[event] = (...args) => {
			for (const listener of listeners) (listener[event] as (...args: unknown[]) => void)(...args);
		};
	}
	return combined as Observer;
}
