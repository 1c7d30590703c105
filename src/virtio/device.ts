/*
 * The contract of a virtio device: some data and four methods. The transport (mmio.ts) owns status, feature
 * negotiation and queue set-up (virtio 1.2 §2.1, §2.2, §4.2) and hands the finished queues over at DRIVER_OK; the
 * device owns what happens on them.
 */
import type { Enter } from "../base/enter.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import type { Observers } from "../base/observer.ts";
import type { SavedState } from "../base/state.ts";
import type { Virtqueue } from "./queue.ts";

/** What a device holds between DRIVER_OK and reset. */
export interface Activation {
	/** One per entry of `queueSizes`; undefined where the driver did not enable that queue. */
	readonly queues: readonly (Virtqueue | undefined)[];
	/** The features that both sides agreed on. */
	readonly features: bigint;
	/** The guest's RAM. */
	readonly memory: GuestMemory;
	/** The way into the machine: whatever the device does later, in a timer or at a stream's event, goes through it. */
	readonly enter: Enter;
	/** Who listens to this machine, for events that only the device knows. */
	readonly observers: Observers;
	/** Tells the driver that the config space changed (virtio 1.2 §2.5); bumps ConfigGeneration. */
	configChanged(): void;
	/** Sets DEVICE_NEEDS_RESET (virtio 1.2 §2.1.2) and logs `why`, rate-limited. */
	needsReset(why: string): void;
}

/** Implemented by every device; nothing here throws on guest input. */
export interface VirtioDevice {
	/** For logs and traces: "virtio-blk0". */
	readonly name: string;
	/** Device ID, virtio 1.2 §5. */
	readonly deviceId: number;
	/** Feature bits of the device type (bits 0 to 23 and 50 up); the transport adds VERSION_1, EVENT_IDX, INDIRECT_DESC. */
	readonly features: bigint;
	/** Largest size of each queue: powers of two, at most 1024. */
	readonly queueSizes: readonly number[];
	/** Device configuration space (virtio 1.2 §2.5); the transport reads it as it stands. */
	readonly config: Uint8Array;
	/** The device takes config writes before the driver has set DRIVER, too; it does not when missing. */
	readonly earlyConfig?: boolean;
	/** DRIVER_OK: the queues are the device's until `reset`. All queues are notified once right after. */
	activate(activation: Activation): void;
	/** The driver says that queue `index` has buffers. */
	notify(index: number): void;
	/**
	 * The driver wrote config bytes [offset, offset + data.length), inside the config space; once it has set DRIVER, or
	 * at any time where `earlyConfig` is set.
	 */
	writeConfig?(offset: number, data: Uint8Array): void;
	/**
	 * Back to the state before `activate`. Chains still in flight may be pushed later; their pushes are ignored. A device
	 * whose backend may still write to buffers of the driver gives a promise, which resolves once it cannot: the reset is
	 * complete only then, and nothing of the driver reaches the device before.
	 */
	reset(): void | Promise<void>;
	/**
	 * Brings the device to a halt: resolves when nothing is in flight, with the backend either. The transport holds the
	 * queues meanwhile, so `pop` gives no chain; those that the device has and need not finish go back by `unpop`. May be
	 * missing in a device that answers every chain before `notify` returns.
	 */
	quiesce?(): Promise<void>;
	/** What is not in the queues, after `quiesce`. A device without `save` and `restore` cannot be in a snapshot. */
	save?(): SavedState;
	/**
	 * In place of `activate`, in a fresh device: takes over what `save` gave. `activation` is missing when the driver had
	 * not said DRIVER_OK; its queues give no chain before the device is notified.
	 *
	 * @throws SnapshotError ERR_STATE_*; then nothing has changed
	 */
	restore?(state: unknown, activation: Activation | undefined): void;
	/** The machine ends: release host resources. Resolves when nothing native is in flight. */
	close(): Promise<void>;
}
