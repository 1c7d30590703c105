/*
 * The driver side of a split virtqueue (virtio 1.2 §2.7.13): builds chains from a free list of descriptors, publishes
 * them, kicks when the device wants it, and collects used entries, with or without EVENT_IDX and indirect tables. The
 * `raw...` methods write rings without any care, for hostile drivers.
 */
import type { GuestMemory } from "../../src/base/guest-memory.ts";
import * as ring from "../../src/virtio/ring.ts";
import { VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import type { FakeDriver } from "./fake-driver.ts";

/** One buffer of a chain. Without `gpa` it is allocated; `data` is what it holds at first. */
export interface Part {
	write: boolean;
	length: number;
	gpa?: number | undefined;
	data?: Uint8Array | undefined;
	/** Region of the RAM to allocate from. */
	region?: number | undefined;
}

/** A buffer that the device reads. */
export function readable(data: Uint8Array | string, region?: number): Part {
	const bytes = typeof data === "string" ? Buffer.from(data) : data;
	return { write: false, length: bytes.length, data: bytes, region };
}

/** A buffer of `length` bytes that the device writes. */
export function writable(length: number, region?: number): Part {
	return { write: true, length, region };
}

/** The bytes of all `arrays` in a row, as a plain Uint8Array, which compares equal to other plain ones. */
export function concat(...arrays: Uint8Array[]): Uint8Array {
	return new Uint8Array(Buffer.concat(arrays));
}

/** What the device put on the used ring. */
export interface Used {
	head: number;
	written: number;
	/** What the writable buffers of the chain hold now, one after the other. */
	data: Uint8Array;
}

/** One descriptor as `rawDescriptor` writes it. */
export interface RawDescriptor {
	gpa: number;
	length: number;
	flags: number;
	next: number;
}

interface Outstanding {
	descriptors: number[];
	parts: { gpa: number; length: number; write: boolean }[];
}

/** Which queue of a driver's. */
export interface FakeQueueOptions {
	index: number;
	size: number;
	/** What was negotiated. */
	eventIdx: boolean;
	indirect: boolean;
	/** Region of the RAM that the rings are in; any when missing. */
	region: number | undefined;
}

export class FakeQueue {
	readonly index: number;
	readonly size: number;
	readonly desc: number;
	readonly avail: number;
	readonly used: number;
	/** How often `kick` really wrote QueueNotify. */
	kicks = 0;
	readonly #driver: FakeDriver;
	readonly #memory: GuestMemory;
	readonly #eventIdx: boolean;
	readonly #indirect: boolean;
	readonly #free: number[];
	readonly #outstanding = new Map<number, Outstanding>();
	#availIdx = 0;
	#kickedIdx = 0;
	#lastUsed = 0;
	/** Used entries that `next` took off the ring while it looked for another one. */
	readonly #collected: Used[] = [];

	constructor(driver: FakeDriver, { index, size, eventIdx, indirect, region }: FakeQueueOptions) {
		this.index = index;
		this.size = size;
		this.#driver = driver;
		this.#memory = driver.memory;
		this.#eventIdx = eventIdx;
		this.#indirect = indirect;
		this.desc = driver.ram.alloc(ring.descBytes(size), 16, region);
		this.avail = driver.ram.alloc(ring.availBytes(size), 2, region);
		this.used = driver.ram.alloc(ring.usedBytes(size), 4, region);
		this.#free = Array.from({ length: size }, (_, i) => size - 1 - i);
	}

	/**
	 * Makes a chain available, not kicked yet; its head. `indirect` (when negotiated) puts it in a table of its own, at
	 * `table` when given.
	 */
	add(parts: readonly Part[], indirect = false, table?: number): number {
		const placed = parts.map((part) => {
			const gpa = part.gpa ?? this.#driver.ram.alloc(part.length, 8, part.region);
			if (part.data !== undefined) this.#memory.write(gpa, part.data);
			return { gpa, length: part.length, write: part.write };
		});
		if (indirect && !this.#indirect) throw new Error("indirect descriptors were not negotiated");
		const count = indirect ? 1 : placed.length;
		if (count > this.#free.length) throw new Error("the queue is full");
		const descriptors = Array.from({ length: count }, () => this.#free.pop()!);
		const head = descriptors[0]!;
		if (indirect) {
			const at = table ?? this.#driver.ram.alloc(ring.descBytes(placed.length), 16);
			placed.forEach((part, i) => {
				this.#writeDescriptor(at, i, part, i + 1 < placed.length ? i + 1 : undefined);
			});
			this.rawDescriptor(head, {
				gpa: at,
				length: ring.descBytes(placed.length),
				flags: ring.VIRTQ_DESC_F_INDIRECT,
				next: 0,
			});
		} else {
			placed.forEach((part, i) => {
				this.#writeDescriptor(this.desc, descriptors[i]!, part, descriptors[i + 1]);
			});
		}
		this.#outstanding.set(head, { descriptors, parts: placed });
		this.rawAvailable(head);
		return head;
	}

	/** Notifies the device if it asked for that; true when it did. */
	kick(): boolean {
		const old = this.#kickedIdx;
		this.#kickedIdx = this.#availIdx;
		if (this.#availIdx === old) return false;
		if (this.#eventIdx) {
			const event = this.#memory.u16(this.used + ring.usedEntry(this.size));
			if (((this.#availIdx - event - 1) & 0xffff) >= ((this.#availIdx - old) & 0xffff)) return false;
		} else if ((this.#memory.u16(this.used + ring.virtq_used.flags) & ring.VIRTQ_USED_F_NO_NOTIFY) !== 0) {
			return false;
		}
		this.rawKick();
		return true;
	}

	/** Takes everything off the used ring and asks for an interrupt at the next entry. */
	collect(): Used[] {
		const out = this.#collected.splice(0);
		while (this.#lastUsed !== this.usedIdx) {
			const at = this.used + ring.usedEntry(this.#lastUsed & (this.size - 1));
			const head = this.#memory.u32(at + ring.virtq_used_elem.id);
			const written = this.#memory.u32(at + ring.virtq_used_elem.len);
			this.#lastUsed = (this.#lastUsed + 1) & 0xffff;
			const chain = this.#outstanding.get(head);
			if (chain === undefined) throw new Error(`the device used head ${head}, which it did not have`);
			this.#outstanding.delete(head);
			this.#free.push(...chain.descriptors.reverse());
			const parts = chain.parts.filter((p) => p.write);
			const data = concat(...parts.map((p) => this.#driver.ram.copy(p.gpa, p.length)));
			if (written > data.length) throw new Error(`the device wrote ${written} bytes into ${data.length}`);
			out.push({ head, written, data });
		}
		this.wantInterrupt();
		return out;
	}

	/** Adds, kicks, and waits until this chain is used; other chains stay for `collect`. */
	async request(parts: readonly Part[], indirect = false): Promise<Used> {
		const head = this.add(parts, indirect);
		this.kick();
		return await this.next(head);
	}

	/** Waits for the used entry of `head`, or for any. */
	async next(head?: number): Promise<Used> {
		for (;;) {
			const all = this.collect();
			const at = head === undefined ? 0 : all.findIndex((u) => u.head === head);
			const [hit] = at >= 0 ? all.splice(at, 1) : [];
			this.#collected.push(...all);
			if (hit !== undefined) return hit;
			await this.#driver.interrupted();
		}
	}

	/** Chains made available that have not been collected. */
	get outstanding(): number {
		return this.#outstanding.size;
	}

	/** used.idx, as the device published it. */
	get usedIdx(): number {
		return this.#memory.u16(this.used + ring.virtq_used.idx);
	}

	/** Asks for an interrupt when the next buffer is used. */
	wantInterrupt(): void {
		if (this.#eventIdx) this.#memory.setU16(this.avail + ring.availEntry(this.size), this.#lastUsed);
		else this.#memory.setU16(this.avail + ring.virtq_avail.flags, 0);
	}

	/** Asks for no interrupts: by flag, or with EVENT_IDX by an event that lies behind. */
	refuseInterrupts(): void {
		if (this.#eventIdx) this.#memory.setU16(this.avail + ring.availEntry(this.size), (this.#lastUsed - 1) & 0xffff);
		else this.#memory.setU16(this.avail + ring.virtq_avail.flags, ring.VIRTQ_AVAIL_F_NO_INTERRUPT);
	}

	/** Writes descriptor `index` of this queue's table as told. */
	rawDescriptor(index: number, descriptor: RawDescriptor): void {
		rawDescriptor(this.#memory, this.desc, index, descriptor);
	}

	/** Puts `head` on the available ring and publishes it. */
	rawAvailable(head: number): void {
		this.#memory.setU16(this.avail + ring.availEntry(this.#availIdx & (this.size - 1)), head);
		this.rawAvailIdx(this.#availIdx + 1);
	}

	/** Sets avail.idx. */
	rawAvailIdx(idx: number): void {
		this.#availIdx = idx & 0xffff;
		this.#memory.setU16(this.avail + ring.virtq_avail.idx, this.#availIdx);
	}

	/** Writes QueueNotify, also when the device does not want it. */
	rawKick(): void {
		this.kicks++;
		this.#driver.write(VIRTIO_MMIO.QueueNotify, this.index);
	}

	#writeDescriptor(table: number, index: number, part: { gpa: number; length: number; write: boolean }, next?: number) {
		const flags = (part.write ? ring.VIRTQ_DESC_F_WRITE : 0) | (next === undefined ? 0 : ring.VIRTQ_DESC_F_NEXT);
		rawDescriptor(this.#memory, table, index, { gpa: part.gpa, length: part.length, flags, next: next ?? 0 });
	}
}

/** Writes descriptor `index` of the table at `table`. */
export function rawDescriptor(memory: GuestMemory, table: number, index: number, descriptor: RawDescriptor): void {
	const at = table + ring.descBytes(index);
	memory.setU64(at + ring.virtq_desc.addr, descriptor.gpa);
	memory.setU32(at + ring.virtq_desc.len, descriptor.length);
	memory.setU16(at + ring.virtq_desc.flags, descriptor.flags);
	memory.setU16(at + ring.virtq_desc.next, descriptor.next);
}
