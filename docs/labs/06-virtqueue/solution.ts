/*
 * Lab 6, solved: the device's side of a split virtqueue (virtio 1.2 §2.7).
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
	readonly head: number;
	readonly parts: Part[];
}

const DESCRIPTOR_BYTES = 16;
const F_NEXT = 1;
const F_WRITE = 2;
const NO_INTERRUPT = 1;

export class Queue {
	readonly #memory: DataView;
	readonly #layout: QueueLayout;
	/* How many chains were taken and given back, modulo 65536. */
	#taken = 0;
	#given = 0;

	/** @param memory the guest's RAM, from address 0 */
	constructor(memory: DataView, layout: QueueLayout) {
		this.#memory = memory;
		this.#layout = layout;
	}

	/** The next chain, or undefined. @throws Error when the driver breaks the rules */
	pop(): Chain | undefined {
		const { avail, size } = this.#layout;
		if (this.#memory.getUint16(avail + 2, true) === this.#taken) return undefined;
		const head = this.#memory.getUint16(avail + 4 + 2 * (this.#taken % size), true);
		this.#taken = (this.#taken + 1) & 0xffff;
		const parts: Part[] = [];
		for (let index: number | undefined = head; index !== undefined; ) {
			if (index >= size) throw new Error(`descriptor ${index} in a queue of ${size}`);
			if (parts.length === size) throw new Error("a chain that does not end");
			const { part, next }: { part: Part; next: number | undefined } = this.#descriptor(index);
			parts.push(part);
			index = next;
		}
		return { head, parts };
	}

	/** Each field is read once: the guest may change it meanwhile. */
	#descriptor(index: number): { part: Part; next: number | undefined } {
		const at = this.#layout.desc + DESCRIPTOR_BYTES * index;
		const address = this.#memory.getBigUint64(at, true);
		const length = this.#memory.getUint32(at + 8, true);
		const flags = this.#memory.getUint16(at + 12, true);
		const next = this.#memory.getUint16(at + 14, true);
		if (address + BigInt(length) > BigInt(this.#memory.byteLength)) {
			throw new Error(`a buffer of ${length} bytes at ${address}`);
		}
		const part = { address: Number(address), length, writable: (flags & F_WRITE) !== 0 };
		return { part, next: (flags & F_NEXT) === 0 ? undefined : next };
	}

	/** Gives a chain back, with `written` bytes in it. */
	push(head: number, written: number): void {
		const { used, size } = this.#layout;
		const element = used + 4 + 8 * (this.#given % size);
		this.#memory.setUint32(element, head, true);
		this.#memory.setUint32(element + 4, written, true);
		this.#given = (this.#given + 1) & 0xffff;
		/* The driver looks at the index first. */
		this.#memory.setUint16(used + 2, this.#given, true);
	}

	/** Whether the driver wants to be interrupted. */
	interruptWanted(): boolean {
		return (this.#memory.getUint16(this.#layout.avail, true) & NO_INTERRUPT) === 0;
	}
}
