/*
 * The driver's side of a split virtqueue (virtio 1.2 §2.7), without a guest: it writes descriptors and the available
 * ring into guest memory and reads the used ring. It writes what it is told, also what no driver should.
 */

/** Where the parts of a queue are, as guest-physical addresses. */
export interface QueueLayout {
	/** How many descriptors; a power of two. */
	readonly size: number;
	/** The descriptor table, the available ring and the used ring. */
	readonly desc: number;
	readonly avail: number;
	readonly used: number;
}

/** One descriptor. */
export interface Part {
	readonly address: number;
	readonly length: number;
	/** The device writes it. */
	readonly writable: boolean;
}

export const F_NEXT = 1;
export const F_WRITE = 2;

/** One page for each part of the queue, from `at`. */
export const layoutAt = (at: number, size: number): QueueLayout => ({
	size,
	desc: at,
	avail: at + 0x1000,
	used: at + 0x2000,
});

export class RingDriver {
	readonly memory: DataView;
	readonly layout: QueueLayout;
	/** What the driver has written to avail.idx. */
	availIdx = 0;
	#usedSeen = 0;

	constructor(memory: DataView, layout: QueueLayout) {
		this.memory = memory;
		this.layout = layout;
	}

	/** Writes descriptor `index`. */
	descriptor(index: number, part: Part, next?: number): void {
		const at = this.layout.desc + 16 * index;
		this.memory.setBigUint64(at, BigInt(part.address), true);
		this.memory.setUint32(at + 8, part.length, true);
		this.memory.setUint16(at + 12, (part.writable ? F_WRITE : 0) | (next === undefined ? 0 : F_NEXT), true);
		this.memory.setUint16(at + 14, next ?? 0, true);
	}

	/** Makes the chain that begins at descriptor `head` available. */
	offer(head: number): void {
		const { avail, size } = this.layout;
		this.memory.setUint16(avail + 4 + 2 * (this.availIdx % size), head, true);
		this.availIdx = (this.availIdx + 1) & 0xffff;
		this.memory.setUint16(avail + 2, this.availIdx, true);
	}

	/** A chain of `parts` in the given descriptors. @returns its head */
	chain(descriptors: readonly number[], parts: readonly Part[]): number {
		for (const [i, part] of parts.entries()) this.descriptor(descriptors[i]!, part, descriptors[i + 1]);
		this.offer(descriptors[0]!);
		return descriptors[0]!;
	}

	get usedIdx(): number {
		return this.memory.getUint16(this.layout.used + 2, true);
	}

	/** Entry `index` of the used ring, which counts from the start of the queue. */
	usedEntry(index: number): { id: number; written: number } {
		const at = this.layout.used + 4 + 8 * (index % this.layout.size);
		return { id: this.memory.getUint32(at, true), written: this.memory.getUint32(at + 4, true) };
	}

	/** The used entries that are new since the last call. */
	collect(): { id: number; written: number }[] {
		const found = [];
		while (this.#usedSeen !== this.usedIdx) {
			found.push(this.usedEntry(this.#usedSeen));
			this.#usedSeen = (this.#usedSeen + 1) & 0xffff;
		}
		return found;
	}
}
