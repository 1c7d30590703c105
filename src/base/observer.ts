/*
 * What can be seen of a machine while it runs: one interface with optional methods, called where things happen. When
 * nobody listens each place costs one check for undefined:
 *
 *     this.#observers.observer?.kick?.(name, index);
 *
 * `--trace` is one observer (machine/trace.ts). What native code answers by itself is not seen, unless an observer with
 * `access` was there when the machine was built: see docs/architecture.md.
 */
import type { Segments } from "./segments.ts";

/** A descriptor chain as an observer sees it; valid during the call only. */
export interface ObservedChain {
	/** Index of its first descriptor. */
	readonly head: number;
	/** What the driver wrote for the device. */
	readonly readable: Segments;
	/** Where the device puts its answer. */
	readonly writable: Segments;
}

/**
 * Listens to a machine. Each method is called on the JavaScript thread, in the middle of what it tells of: it should be
 * quick, changes nothing, and what it throws ends the machine as a device's defect does.
 */
export interface Observer {
	/** vCPU `vcpu` has stopped for `reason` (KVM_EXIT_*); before it is handled. */
	exit?(vcpu: number, reason: number): void;
	/**
	 * The guest has read or written a device; "nothing" when none is there. A write that was posted is told when it is
	 * delivered. `address` is a port or a guest-physical address, `size` is 1, 2 or 4 bytes.
	 */
	access?(bus: "pio" | "mmio", device: string, write: boolean, address: number, size: number, value: number): void;
	/** The driver has written the device status; `status` is what it reads now. */
	status?(device: string, status: number, driverFeatures: bigint): void;
	/** A notification of queue `queue` has arrived; several kicks may have become one. */
	kick?(device: string, queue: number): void;
	/** The device has taken a chain. */
	pop?(device: string, queue: number, chain: ObservedChain): void;
	/** The device has given a chain back with `written` bytes in it. The driver sees it at the device's next flush. */
	push?(device: string, queue: number, head: number, written: number): void;
	/** The device interrupts the guest; `cause` is what it adds to InterruptStatus, undefined for a plain line. */
	interrupt?(device: string, cause: number | undefined): void;
	/** A backend has answered request `token` of a device. */
	complete?(device: string, token: number, result: string): void;
}

const EVENTS = Object.keys({
	exit: true,
	access: true,
	status: true,
	kick: true,
	pop: true,
	push: true,
	interrupt: true,
	complete: true,
} satisfies Record<keyof Observer, true>) as (keyof Observer)[];

/** The place where the parts of one machine look for who listens. */
export class Observers {
	/** Whom to tell; undefined when nobody listens. Several are one that fans out. */
	observer: Observer | undefined;
	#entries: readonly { readonly observer: Observer }[] = [];

	/** Adds a listener. Returns how it is taken away again; a second call does nothing. */
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

/** One observer for all, with the methods that any of them has. */
function fanOut(all: readonly Observer[]): Observer | undefined {
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
