/*
 * The device side of a split virtqueue (virtio 1.2 §2.7).
 * `ring.ts` has the layout of its memory.
 *
 * `pop` takes a chain off the available ring, `push` puts it on the used ring, `flush` publishes used.idx once for a
 * batch and interrupts once if the driver wants it. Chains are preallocated per head index. A chain holds a snapshot of
 * its descriptors, checked and turned into Segments, so a guest that rewrites a descriptor afterwards changes nothing.
 * A driver that breaks the rules breaks the queue: `broken` is called once, and `pop` gives nothing any more.
 */
import type { GuestMemory, MemoryWindow } from "../base/guest-memory.ts";
import { Observers } from "../base/observer.ts";
import { Segments } from "../base/segments.ts";
import { getU64 } from "../base/u64.ts";
import type { QueueEvents, QueueLayout, QueueObservers, QueueOptions, QueuePosition } from "./queue-options.ts";
import {
	availBytes,
	availEntry,
	descBytes,
	usedBytes,
	usedEntry,
	VIRTQ_AVAIL_F_NO_INTERRUPT,
	VIRTQ_DESC_F_INDIRECT,
	VIRTQ_DESC_F_NEXT,
	VIRTQ_DESC_F_WRITE,
	VIRTQ_USED_F_NO_NOTIFY,
	virtq_avail,
	virtq_desc,
	virtq_used,
	virtq_used_elem,
} from "./ring.ts";
import type { QueueIndices } from "./view.ts";

/** Longest chain accepted, indirect descriptors included. Linux builds indirect chains beyond the queue size. */
const MAX_CHAIN = 1024;
/** Longest chain in bytes (virtio 1.2 §2.7.5): used.len has to hold what was written. */
const MAX_CHAIN_BYTES = 2 ** 32 - 1;

/*
 * Fairness between queues: the limits of one turn. A turn begins with a notification and goes on over events of the
 * device's backend. It ends with the chain that reaches one of these limits; other events are handled before the next
 * turn begins. A device bounds the work of a single chain itself.
 */
const CHAINS_PER_TURN = 1024;
/** Of all its chains, indirect and empty ones included. */
const DESCRIPTORS_PER_TURN = 4096;
/** Readable and writable bytes together, used or not. */
const BYTES_PER_TURN = 16 * 1024 * 1024;

export type { QueueEvents, QueueLayout, QueueObservers, QueueOptions, QueuePosition } from "./queue-options.ts";

const NOBODY: QueueObservers = { observers: new Observers(), device: "", index: 0 };

/** One request of the driver: a part that the device reads and a part that it writes. Valid until pushed. */
export class Chain {
	/** Index of its first descriptor; no other chain in flight has it. */
	readonly head: number;
	/** The part that the driver wrote for the device. */
	readonly readable = new Segments();
	/** The part that the device writes. */
	readonly writable = new Segments();
	/** Popped and not yet pushed. Each queue has its own chains, so a push after a reset finds a dead queue. */
	inFlight = false;

	/** Made by its queue. */
	constructor(head: number) {
		this.head = head;
	}
}

/** The device side of one split virtqueue (virtio 1.2 §2.7): `pop`, `push`, and `flush` at the end of a batch. */
export class Virtqueue {
	/** Descriptors. */
	readonly size: number;
	readonly #memory: GuestMemory;
	readonly #events: QueueEvents;
	readonly #observers: Observers;
	readonly #names: QueueObservers;
	readonly #eventIdx: boolean;
	readonly #indirect: boolean;
	readonly #chains: Chain[];
	/* The rings, each inside one window; the u16 indexes are for Atomics. */
	readonly #desc: MemoryWindow;
	readonly #descAt: number;
	readonly #avail: MemoryWindow;
	readonly #availAt: number;
	readonly #used: MemoryWindow;
	readonly #usedAt: number;
	#nextAvail: number;
	#nextUsed: number;
	#flushedUsed: number;
	#suppressed: boolean;
	#dead = false;
	/** `pop` gives nothing: the queue is dead or held. */
	#stopped = false;
	/** What is left of this turn. */
	#chainsLeft = CHAINS_PER_TURN;
	#descriptorsLeft = DESCRIPTORS_PER_TURN;
	#bytesLeft = BYTES_PER_TURN;
	/** `more` was called in this turn. */
	#moreAsked = false;
	/** Between `watch` and `unwatch`. */
	#watched = false;

	/** Checks a layout. Returns why it cannot be a queue, or undefined when it can. */
	static validateLayout(memory: GuestMemory, layout: QueueLayout): string | undefined {
		const { size, desc, avail, used } = layout;
		if (size < 1 || size > 1024 || (size & (size - 1)) !== 0)
			return `queue size ${size} is not a power of two up to 1024`;
		const parts = [
			["descriptor table", desc, descBytes(size), 16],
			["available ring", avail, availBytes(size), 2],
			["used ring", used, usedBytes(size), 4],
		] as const;
		for (const [what, gpa, bytes, align] of parts) {
			if (gpa % align !== 0) return `${what} at 0x${gpa.toString(16)} is not ${align}-byte aligned`;
			if (memory.find(gpa, bytes) === undefined) return `${what} at 0x${gpa.toString(16)} is not in RAM`;
		}
		return undefined;
	}

	/** @param layout one that `validateLayout` found no fault with */
	constructor(
		memory: GuestMemory,
		layout: QueueLayout,
		events: QueueEvents,
		{ position, observers = NOBODY }: QueueOptions = {},
	) {
		const { size, desc, avail, used } = layout;
		this.size = size;
		this.#memory = memory;
		this.#events = events;
		this.#observers = observers.observers;
		this.#names = observers;
		this.#eventIdx = layout.eventIdx;
		this.#indirect = layout.indirect;
		this.#chains = Array.from({ length: size }, (_, head) => new Chain(head));
		this.#desc = memory.find(desc, descBytes(size))!;
		this.#avail = memory.find(avail, availBytes(size))!;
		this.#used = memory.find(used, usedBytes(size))!;
		this.#descAt = desc - this.#desc.gpa;
		this.#availAt = avail - this.#avail.gpa;
		this.#usedAt = used - this.#used.gpa;
		this.#nextAvail = position?.nextAvail ?? 0;
		this.#nextUsed = this.#flushedUsed = position?.nextUsed ?? 0;
		/* Read from the ring, so that a restored queue goes on from the driver's view. */
		this.#suppressed =
			(Atomics.load(this.#used.u16, (this.#usedAt + virtq_used.flags) >>> 1) & VIRTQ_USED_F_NO_NOTIFY) !== 0;
	}

	/** The position of the queue. Flush it first: pushed chains must be published. */
	get position(): QueuePosition {
		return { nextAvail: this.#nextAvail, nextUsed: this.#flushedUsed };
	}

	/** Chains popped and not yet pushed; none of a queue that is dead. */
	get inFlight(): number {
		return this.#dead ? 0 : this.#chains.filter((chain) => chain.inFlight).length;
	}

	/** Where the queue stands, and the chains in flight themselves. It changes nothing. @internal */
	inspect(): QueueIndices & { readonly chains: readonly Chain[]; readonly broken: boolean } {
		const chains = this.#dead ? [] : this.#chains.filter((chain) => chain.inFlight);
		const indices = { nextAvail: this.#nextAvail, nextUsed: this.#nextUsed, usedIdx: this.#flushedUsed };
		const availIdx = (this.#nextAvail + this.#pending()) & 0xffff;
		return { ...indices, availIdx, inFlight: chains.length, chains, broken: this.#dead };
	}

	/** Holds the queue of a device that quiesces: `pop` gives nothing from now on, and `push` still works. */
	hold(): void {
		this.#stopped = true;
	}

	/** Ends `hold`. The device needs a notification: it may have missed some. */
	release(): void {
		this.#stopped = this.#dead;
		this.beginTurn();
	}

	/**
	 * Lets `pop` give a turn's chains again. The transport calls it at each notification and after `more`, so that a driver
	 * which adds requests as fast as they are answered cannot keep the JavaScript thread for itself.
	 */
	beginTurn(): void {
		this.#chainsLeft = CHAINS_PER_TURN;
		this.#descriptorsLeft = DESCRIPTORS_PER_TURN;
		this.#bytesLeft = BYTES_PER_TURN;
		this.#moreAsked = false;
	}

	/** This turn has reached a limit: `pop` gives nothing until a later one. Ask before work that needs no new chain. */
	turnIsOver(): boolean {
		if (this.#chainsLeft > 0 && this.#descriptorsLeft > 0 && this.#bytesLeft > 0) return false;
		if (this.#events.more === undefined) {
			this.beginTurn();
			return false;
		}
		if (!this.#moreAsked) this.#events.more();
		this.#moreAsked = true;
		return true;
	}

	/** From now on somebody looks at `hasMore`, and `pop` leaves the driver's notifications off. */
	watch(): void {
		this.#watched = true;
	}

	/** `pop` would give a chain. */
	get hasMore(): boolean {
		return !this.#stopped && !this.#moreAsked && this.#pending() !== 0;
	}

	/** Ends `watch`: the driver notifies again. True when there is a chain that it did not tell of. */
	unwatch(): boolean {
		this.#watched = false;
		/* After the end of a turn the device is notified again anyway. */
		return !this.#stopped && !this.#moreAsked && this.#listen() !== 0;
	}

	/** Counts work that took no chain, such as a frame that was dropped, as one chain of this turn. */
	spend(): void {
		this.#chainsLeft--;
	}

	/**
	 * Takes the next chain, or undefined when the ring is empty. On an empty ring it enables the driver's notifications
	 * and looks once more, so no caller can forget that; not while somebody watches the ring.
	 */
	pop(): Chain | undefined {
		if (this.#stopped || this.turnIsOver()) return undefined;
		let pending = this.#pending();
		if (pending === 0) {
			pending = this.#watched ? 0 : this.#listen();
			if (pending === 0) return undefined;
		}
		if (pending > this.size) return this.#break(`avail.idx is ${pending} ahead of a queue of ${this.size}`);
		this.#wantNotify(false);
		const slot = this.#nextAvail & (this.size - 1);
		const head = this.#avail.view.getUint16(this.#availAt + availEntry(slot), true);
		this.#nextAvail = (this.#nextAvail + 1) & 0xffff;
		const chain = this.#chains[head];
		if (chain === undefined) return this.#break(`head ${head} is outside a queue of ${this.size}`);
		if (chain.inFlight) return this.#break(`head ${head} was made available twice`);
		chain.readable.clear();
		chain.writable.clear();
		const fault = this.#collect(chain);
		if (fault !== undefined) return this.#break(fault);
		const bytes = chain.readable.totalBytes + chain.writable.totalBytes;
		if (bytes > MAX_CHAIN_BYTES) {
			return this.#break(`chain at head ${head} is longer than ${MAX_CHAIN_BYTES} bytes`);
		}
		this.#chainsLeft--;
		this.#bytesLeft -= bytes;
		chain.inFlight = true;
		this.#observers.observer?.pop?.(this.#names.device, this.#names.index, chain);
		return chain;
	}

	/** Puts the chain that was popped last back, as if it had not been popped. Of several, the last comes first. */
	unpop(chain: Chain): void {
		if (this.#dead || !chain.inFlight || this.#chains[chain.head] !== chain) return;
		chain.inFlight = false;
		this.#nextAvail = (this.#nextAvail - 1) & 0xffff;
		const slot = this.#nextAvail & (this.size - 1);
		const head = this.#avail.view.getUint16(this.#availAt + availEntry(slot), true);
		this.#observers.observer?.unpop?.(this.#names.device, this.#names.index, chain.head);
		if (head !== chain.head) this.#break(`head ${chain.head} was overwritten before it was used`);
	}

	/**
	 * Puts back the chains in flight that were popped last, up to the first that is not in flight, for a device that takes
	 * over from another one.
	 */
	unpopAll(): void {
		for (;;) {
			const slot = (this.#nextAvail - 1) & (this.size - 1);
			const chain = this.#chains[this.#avail.view.getUint16(this.#availAt + availEntry(slot), true)];
			if (this.#dead || chain?.inFlight !== true) return;
			this.unpop(chain);
		}
	}

	/** Returns a chain to the driver; `written` is the number of bytes written to its writable part. Needs a `flush`. */
	push(chain: Chain, written: number): void {
		if (this.#dead || !chain.inFlight || this.#chains[chain.head] !== chain) return;
		chain.inFlight = false;
		const at = this.#usedAt + usedEntry(this.#nextUsed & (this.size - 1));
		this.#used.view.setUint32(at + virtq_used_elem.id, chain.head, true);
		this.#used.view.setUint32(at + virtq_used_elem.len, written, true);
		this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
		this.#observers.observer?.push?.(this.#names.device, this.#names.index, chain.head, written);
	}

	/** Publishes the chains that were pushed since the last flush, and interrupts the driver if it asked for that. */
	flush(): void {
		if (this.#dead || this.#nextUsed === this.#flushedUsed) return;
		const old = this.#flushedUsed;
		this.#flushedUsed = this.#nextUsed;
		/* Release, and full fence against the load of used_event or flags: pairs with the driver's fence between its
		 * store of used_event and its load of used.idx (virtio 1.2 §2.7.7.2). */
		Atomics.store(this.#used.u16, (this.#usedAt + virtq_used.idx) >>> 1, this.#nextUsed);
		if (this.#eventIdx) {
			const sinceEvent = (this.#nextUsed - this.#usedEvent() - 1) & 0xffff;
			if (sinceEvent < ((this.#nextUsed - old) & 0xffff)) this.#events.interrupt();
		} else if (
			(Atomics.load(this.#avail.u16, (this.#availAt + virtq_avail.flags) >>> 1) & VIRTQ_AVAIL_F_NO_INTERRUPT) ===
			0
		) {
			this.#events.interrupt();
		}
	}

	/** The driver has looked at all chains that came back to it, or does not tell (without VIRTIO_F_EVENT_IDX). */
	get isSeen(): boolean {
		return !this.#eventIdx || this.#usedEvent() === this.#flushedUsed;
	}

	/** Reset: every later push of a chain popped before is ignored. */
	kill(): void {
		this.#dead = this.#stopped = true;
	}

	#usedEvent(): number {
		return Atomics.load(this.#avail.u16, (this.#availAt + availEntry(this.size)) >>> 1);
	}

	/** Chains made available and not yet popped; acquire, pairs with the driver's release store of avail.idx. */
	#pending(): number {
		return (Atomics.load(this.#avail.u16, (this.#availAt + virtq_avail.idx) >>> 1) - this.#nextAvail) & 0xffff;
	}

	#listen(): number {
		this.#wantNotify(true);
		return this.#pending();
	}

	/** Enables or disables QueueNotify. With EVENT_IDX an old avail_event disables it at no cost. */
	#wantNotify(wanted: boolean): void {
		if (this.#eventIdx) {
			/* The store is a full fence: pairs with the driver's between avail.idx and its load of avail_event. */
			if (wanted) Atomics.store(this.#used.u16, (this.#usedAt + usedEntry(this.size)) >>> 1, this.#nextAvail);
		} else if (this.#suppressed === wanted) {
			this.#suppressed = !wanted;
			Atomics.store(this.#used.u16, (this.#usedAt + virtq_used.flags) >>> 1, wanted ? 0 : VIRTQ_USED_F_NO_NOTIFY);
		}
	}

	/** Follows a chain from its head through its table, then through an indirect one. Returns what is wrong with it. */
	#collect(chain: Chain): string | undefined {
		let table = this.#desc;
		let tableAt = this.#descAt;
		let entries = this.size;
		let indirect = this.#indirect;
		/** Descriptors of this table that the chain may still have: with more of them it has a loop. */
		let left = entries;
		let index = chain.head;
		for (let n = 1; ; n++) {
			if (n > MAX_CHAIN || left === 0) return `chain at head ${chain.head} is too long or has a loop`;
			const at = tableAt + virtq_desc.sizeof * index;
			/* One read of each field: the guest may change them while we look. */
			const gpa = getU64(table.view, at + virtq_desc.addr);
			const length = table.view.getUint32(at + virtq_desc.len, true);
			const flags = table.view.getUint16(at + virtq_desc.flags, true);
			const next = table.view.getUint16(at + virtq_desc.next, true);
			if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
				if (!indirect) return `descriptor ${index} is indirect where it must not be`;
				if ((flags & VIRTQ_DESC_F_NEXT) !== 0) return `descriptor ${index} is indirect and has a next`;
				const inner = this.#memory.find(gpa, length);
				const count = length / virtq_desc.sizeof;
				if (length === 0 || length % virtq_desc.sizeof !== 0 || count > MAX_CHAIN || inner === undefined) {
					return `indirect table of ${length} bytes at 0x${gpa.toString(16)} is not valid`;
				}
				table = inner;
				tableAt = gpa - inner.gpa;
				entries = left = count;
				indirect = false;
				index = 0;
				/* An indirect descriptor is no buffer. */
				n--;
				continue;
			}
			const writable = (flags & VIRTQ_DESC_F_WRITE) !== 0;
			if (!writable && chain.writable.count > 0) return `descriptor ${index} is readable after a writable one`;
			if (!this.#add(writable ? chain.writable : chain.readable, gpa, length)) {
				return `descriptor ${index} with ${length} bytes at 0x${gpa.toString(16)} is not in RAM`;
			}
			if ((flags & VIRTQ_DESC_F_NEXT) === 0) {
				this.#descriptorsLeft -= n;
				return undefined;
			}
			if (next >= entries) return `descriptor ${index} has next ${next} outside a table of ${entries}`;
			index = next;
			left--;
		}
	}

	/** Adds a checked range, cut where it crosses windows. */
	#add(list: Segments, gpa: number, length: number): boolean {
		const whole = this.#memory.find(gpa, length);
		if (whole !== undefined) {
			if (length > 0) list.add(whole, gpa - whole.gpa, length);
			return true;
		}
		if (!this.#memory.contains(gpa, length)) return false;
		for (let at = gpa; at < gpa + length; ) {
			const window = this.#memory.find(at, 1)!;
			const part = Math.min(gpa + length, window.end) - at;
			list.add(window, at - window.gpa, part);
			at += part;
		}
		return true;
	}

	#break(why: string): undefined {
		this.kill();
		this.#events.broken(why);
		return undefined;
	}
}
