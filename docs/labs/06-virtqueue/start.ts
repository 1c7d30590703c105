/*
 * Lab 6: the device's side of a split virtqueue (virtio 1.2 §2.7). Check it with
 *
 *     tsvmm learn check 6
 */

/** Where the parts of a queue are, as guest-physical addresses. */
export interface QueueLayout {
	readonly size: number;
	readonly desc: number;
	readonly avail: number;
	readonly used: number;
}

/** One buffer of a chain. */
export interface Part {
	readonly address: number;
	readonly length: number;
	/** The device writes it; otherwise it reads it. */
	readonly writable: boolean;
}

export interface Chain {
	/** Index of its first descriptor. */
	readonly head: number;
	readonly parts: Part[];
}

export class Queue {
	readonly #memory: DataView;
	readonly #layout: QueueLayout;

	/** @param memory the guest's RAM, from address 0; all numbers in it are little-endian */
	constructor(memory: DataView, layout: QueueLayout) {
		this.#memory = memory;
		this.#layout = layout;
	}

	/** The next chain, or undefined. @throws Error when the driver breaks the rules (step 4) */
	pop(): Chain | undefined {
		/* 1. Is there a new head in the available ring? 2. Follow its descriptors. */
		const available = this.#memory.getUint16(this.#layout.avail + 2, true);
		console.log(`the driver has made ${available} chains available`);
		return undefined;
	}

	/** Gives a chain back, with `written` bytes in it. */
	push(head: number, written: number): void {
		/* 3. An element of the used ring, and then its index. */
		console.log(`Yours to write: chain ${head} is done, ${written} bytes`);
	}

	/** Whether the driver wants to be interrupted. */
	interruptWanted(): boolean {
		return true; /* 5. */
	}
}
