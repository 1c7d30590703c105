/*
 * The contract of a virtio device: some data and four methods. The transport (mmio.ts) does status, feature negotiation
 * and queue set-up (virtio 1.2 §2.1, §2.2, §4.2). At DRIVER_OK it gives the finished queues to the device, which serves
 * them.
 */
import type { Enter } from "../base/enter.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import type { Observers } from "../base/observer.ts";
import type { SavedState } from "../base/state.ts";
import type { Virtqueue } from "./queue.ts";

/** What a device gets at DRIVER_OK and uses until reset. */
export interface Activation {
	/** One per entry of `queueSizes`; undefined where the driver did not enable that queue. */
	readonly queues: readonly (Virtqueue | undefined)[];
	/** The features that both sides agreed on. */
	readonly features: bigint;
	/** The guest's RAM. */
	readonly memory: GuestMemory;
	/** The way into the machine. All later work of the device, in a timer or at a stream's event, goes through it. */
	readonly enter: Enter;
	/** The machine's observers, for events that only the device knows. */
	readonly observers: Observers;
	/** Tells the driver that the config space changed (virtio 1.2 §2.5); bumps ConfigGeneration. */
	configChanged(): void;
	/** Sets DEVICE_NEEDS_RESET (virtio 1.2 §2.1.2) and logs `why`, rate-limited. */
	needsReset(why: string): void;
}

/** Implemented by every device. No method throws on guest input. */
export interface VirtioDevice {
	/** For logs and traces: "virtio-blk0". */
	readonly name: string;
	/** Device ID, virtio 1.2 §5. */
	readonly deviceId: number;
	/** Feature bits of the device type (bits 0 to 23 and 50 up); the transport adds VERSION_1, EVENT_IDX, INDIRECT_DESC. */
	readonly features: bigint;
	/** Largest size of each queue: powers of two, at most 1024. */
	readonly queueSizes: readonly number[];
	/** Device configuration space (virtio 1.2 §2.5). The transport reads it at each access. */
	readonly config: Uint8Array;
	/** True: the device takes config writes before the driver has set DRIVER, too. False when missing. */
	readonly earlyConfig?: boolean;
	/** DRIVER_OK: the queues are the device's until `reset`. All queues are notified once right after. */
	activate(activation: Activation): void;
	/** The driver has notified queue `index`: it has buffers. */
	notify(index: number): void;
	/**
	 * Answers what the backend has done, if it can tell without waiting. A device that has this method and takes all chains
	 * in `notify` is polled (poller.ts): its driver waits for each answer.
	 */
	collect?(): void;
	/**
	 * The driver wrote config bytes [offset, offset + data.length), inside the config space; once it has set DRIVER, or
	 * at any time where `earlyConfig` is set.
	 */
	writeConfig?(offset: number, data: Uint8Array): void;
	/**
	 * Back to the state before `activate`. Chains in flight may be pushed later, but these pushes are ignored. If the
	 * backend may still write to the driver's buffers, the device returns a promise that resolves when it cannot. Only
	 * then the reset is complete, and until then no access of the driver reaches the device.
	 */
	reset(): void | Promise<void>;
	/**
	 * Halts the device: resolves when it and its backend have nothing in flight. The transport holds the queues
	 * meanwhile, so `pop` gives no chain. Chains that the device has and need not finish go back by `unpop`. A device
	 * that answers every chain before `notify` returns needs no `quiesce`.
	 */
	quiesce?(): Promise<void>;
	/**
	 * The device's state, after `quiesce`, without its queues. A device without `save` and `restore` cannot be in a
	 * snapshot.
	 */
	save?(): SavedState;
	/**
	 * Called instead of `activate` in a fresh device, with the result of `save`. `activation` is missing when the driver
	 * had not set DRIVER_OK. Its queues give no chain before the device is notified.
	 *
	 * @throws SnapshotError ERR_STATE_*; then nothing has changed
	 */
	restore?(state: unknown, activation: Activation | undefined): void;
	/** The machine ends: release the host's resources. Resolves when nothing native is in flight. */
	close(): Promise<void>;
}
