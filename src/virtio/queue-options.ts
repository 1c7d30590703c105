/*
 * What a virtqueue (queue.ts) is made with: where the driver has put it, where it goes on, and what it calls.
 */
import type { Observers } from "../base/observer.ts";

/** Where the driver put a queue and what was negotiated for it. */
export interface QueueLayout {
	/** Descriptors: a power of two, at most 1024. */
	readonly size: number;
	/** Guest-physical address of the descriptor table, 16-byte aligned (virtio 1.2 §2.7). */
	readonly desc: number;
	/** Guest-physical address of the available ring, 2-byte aligned. */
	readonly avail: number;
	/** Guest-physical address of the used ring, 4-byte aligned. */
	readonly used: number;
	/** VIRTIO_F_EVENT_IDX was negotiated. */
	readonly eventIdx: boolean;
	/** VIRTIO_F_INDIRECT_DESC was negotiated. */
	readonly indirect: boolean;
}

/** The position of a queue: the indices of the next chain to pop and the next used entry to write, modulo 2^16. */
export interface QueuePosition {
	/** Of the available ring. */
	readonly nextAvail: number;
	/** Of the used ring. */
	readonly nextUsed: number;
}

/** A queue's calls to its transport. */
export interface QueueEvents {
	/** The driver wants an interrupt for used buffers. */
	interrupt(): void;
	/** The driver broke the rules. The queue is dead until a reset. */
	broken(why: string): void;
	/**
	 * The turn is over, and the queue may hold more chains. The listener calls `beginTurn` and notifies the device again
	 * after other events were handled; the driver sends no notification for these chains. Without a listener a turn has
	 * no limits.
	 */
	more?(): void;
}

/** The observers of a queue's chains, and the queue's name for them. */
export interface QueueObservers {
	/** The machine's. */
	readonly observers: Observers;
	/** The device's name. */
	readonly device: string;
	/** The queue's index in the device. */
	readonly index: number;
}

/** Options of a queue. */
export interface QueueOptions {
	/** The position of a saved queue; the beginning when missing. */
	readonly position?: QueuePosition | undefined;
	/** Nobody when missing. */
	readonly observers?: QueueObservers;
}
