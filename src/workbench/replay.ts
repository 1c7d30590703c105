/*
 * Plays a recording against a device, without a guest and without KVM, and tells in what the device behaves differently.
 * The registers are read and written as the guest did. Each chain that the recorded device took is put into a queue with
 * the recorded bytes, before the access or kick after which it was taken. What the device writes and returns is compared.
 *
 *     recording:   write Status | kick 0 | pop head 3 | push head 3    ->    chain 3 available, notify(0), push: the same?
 *
 * The driver's rings lie in memory of their own, so the addresses that the guest wrote are replaced. Interrupts are
 * compared by whether there is one: when a guest wants one depends on its speed.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { GuestMemory } from "../base/guest-memory.ts";
import { Observers } from "../base/observer.ts";
import { highHalf, lowHalf } from "../base/u64.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { MmioTransport } from "../virtio/mmio.ts";
import {
	availBytes,
	availEntry,
	descBytes,
	usedBytes,
	VIRTQ_DESC_F_INDIRECT,
	VIRTQ_DESC_F_NEXT,
	VIRTQ_DESC_F_WRITE,
	virtq_avail,
	virtq_desc,
	virtq_used,
} from "../virtio/ring.ts";
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_MMIO } from "../virtio/spec.ts";
import type { RecordedEvent, Recording } from "./recording.ts";

/** What a replay has found. */
export interface ReplayResult {
	/** Events of the device. */
	readonly events: number;
	/** Chains that it took. */
	readonly requests: number;
	/** In words, with the number of the event: its line in the recording. */
	readonly differences: readonly string[];
}

type Numbered = Recording["events"][number];
type Popped = Extract<RecordedEvent, { kind: "pop" }>;
type Pushed = Extract<RecordedEvent, { kind: "push" }>;

/** A chain of the recording. */
interface Request {
	readonly number: number;
	readonly pop: Popped;
	/** How the recorded device has answered it. */
	answer: { readonly number: number; readonly push: Pushed } | undefined;
	/** Addresses and lengths of what the device may write. */
	writable: readonly { readonly gpa: number; readonly bytes: number }[];
	answered: boolean;
}

/** The driver's side of a queue. */
interface Ring {
	readonly size: number;
	readonly desc: number;
	readonly avail: number;
	readonly used: number;
	offered: number;
	pushed: number;
	/** By head, what is in flight. */
	readonly inFlight: Map<number, Request>;
	nextDescriptor: number;
}

const RAM_BYTES = 64 << 20;
/** Rings of a queue of 1024, with room for chains: descriptors are used round. */
const RINGS_BYTES = 64 << 10;
const MAX_QUEUES = 64;
/** How long an answer may take. */
const LATE_MS = 1000;
/** Registers whose value depends on time. */
const UNSTEADY: readonly number[] = [VIRTIO_MMIO.InterruptStatus, VIRTIO_MMIO.ConfigGeneration];
const QUEUE_ADDRESSES: readonly number[] = [
	VIRTIO_MMIO.QueueDescLow,
	VIRTIO_MMIO.QueueDescHigh,
	VIRTIO_MMIO.QueueDriverLow,
	VIRTIO_MMIO.QueueDriverHigh,
	VIRTIO_MMIO.QueueDeviceLow,
	VIRTIO_MMIO.QueueDeviceHigh,
];

/** @param name the recorded device's */
export async function replay(recording: Recording, name: string, device: VirtioDevice): Promise<ReplayResult> {
	return await new Replay(
		device,
		recording.events.filter(({ event }) => event.device === name),
	).run();
}

class Replay {
	readonly #events: readonly Numbered[];
	readonly #memory = new GuestMemory([{ gpa: 0, hva: 0, sizeBytes: RAM_BYTES, buffer: new ArrayBuffer(RAM_BYTES) }]);
	readonly #transport: MmioTransport;
	readonly #rings = new Map<number, Ring>();
	readonly #requests = new Map<number, Request>();
	readonly #differences: string[] = [];
	#selected = 0;
	#featuresSel = 0;
	#indirect = false;
	#sizes = new Map<number, number>();
	#nextBuffer = MAX_QUEUES * RINGS_BYTES;
	#interrupts = 0;
	/** Requests that the device has and has not answered. */
	readonly #open = new Set<Request>();
	/** An answer did not come in time. */
	#gaveUp = false;

	constructor(device: VirtioDevice, events: readonly Numbered[]) {
		this.#events = events;
		const observers = new Observers();
		observers.attach({
			pop: (_device, queue, { head }) => {
				if (!this.#rings.get(queue)?.inFlight.has(head)) this.#differs(0, `it took head ${head} of queue ${queue}`);
			},
			push: (_device, queue, head, written) => this.#pushed(queue, head, written),
			violation: (_device, what) => this.#differs(0, `it found a fault of the driver: ${what}`),
		});
		const line = { raise: () => void this.#interrupts++ };
		const options = { memory: this.#memory, line, interruptStatus: new Int32Array(1), observers };
		this.#transport = new MmioTransport(device, options);
		this.#pair();
	}

	async run(): Promise<ReplayResult> {
		for (const [index, { number, event }] of this.#events.entries()) {
			if (event.kind === "read") this.#read(number, event);
			if (event.kind !== "write" && event.kind !== "kick") continue;
			await this.#settle(number);
			for (const request of this.#takenAfter(index)) this.#offer(request);
			if (event.kind === "kick") this.#transport.notify(event.queue);
			else await this.#write(event);
		}
		await this.#settle(Number.POSITIVE_INFINITY);
		this.#compareEnd();
		await this.#transport.device.close();
		return { events: this.#events.length, requests: this.#requests.size, differences: this.#differences };
	}

	/** Finds the answer to each chain. */
	#pair(): void {
		const inFlight = new Map<string, Request>();
		for (const { number, event } of this.#events) {
			if (event.kind !== "pop" && event.kind !== "push" && event.kind !== "unpop") continue;
			const key = `${event.queue} ${event.head}`;
			const before = inFlight.get(key);
			if (event.kind === "push" && before !== undefined) before.answer = { number, push: event };
			if (event.kind === "unpop" && before !== undefined) this.#requests.delete(before.number);
			if (event.kind !== "pop") continue;
			const request: Request = { number, pop: event, answer: undefined, writable: [], answered: false };
			inFlight.set(key, request);
			this.#requests.set(number, request);
		}
	}

	/** The chains that were taken after event `index` and before the next one of the guest. */
	#takenAfter(index: number): Request[] {
		const found: Request[] = [];
		for (let at = index + 1; at < this.#events.length; at++) {
			const { number, event } = this.#events[at]!;
			if (event.kind === "write" || event.kind === "kick") break;
			const request = this.#requests.get(number);
			if (request !== undefined) found.push(request);
		}
		return found;
	}

	#read(number: number, { offset, size, value }: Extract<RecordedEvent, { kind: "read" | "write" }>): void {
		const found = this.#transport.read(offset, size) >>> 0;
		if (found === value >>> 0 || UNSTEADY.includes(offset)) return;
		this.#differs(number, `a read of ${registerName(offset)} gives ${hex(found)}, recorded is ${hex(value)}`);
	}

	async #write({ offset, size, value }: Extract<RecordedEvent, { kind: "read" | "write" }>): Promise<void> {
		if (QUEUE_ADDRESSES.includes(offset)) return;
		let written = value;
		if (offset === VIRTIO_MMIO.QueueSel) this.#selected = value;
		if (offset === VIRTIO_MMIO.QueueNum) this.#sizes.set(this.#selected, value);
		if (offset === VIRTIO_MMIO.DriverFeaturesSel) this.#featuresSel = value;
		/* Without EVENT_IDX each answer is followed by an interrupt. */
		if (offset === VIRTIO_MMIO.DriverFeatures && this.#featuresSel === 0) {
			written &= ~Number(VIRTIO_F_EVENT_IDX);
			this.#indirect = (written & Number(VIRTIO_F_INDIRECT_DESC)) !== 0;
		}
		if (offset === VIRTIO_MMIO.QueueReady && value === 1) this.#place(this.#selected);
		if (offset === VIRTIO_MMIO.Status && value === 0) this.#rings.clear();
		await this.#transport.write(offset, size, written >>> 0);
	}

	/** Gives a queue rings of its own. */
	#place(queue: number): void {
		const size = this.#sizes.get(queue) ?? 1;
		if (queue >= MAX_QUEUES || size < 1 || size > 1024) return;
		const desc = queue * RINGS_BYTES;
		const avail = desc + 16 * 1024;
		const used = avail + 8 * 1024;
		this.#memory.bytes(desc, descBytes(size)).fill(0);
		this.#memory.bytes(avail, availBytes(size)).fill(0);
		this.#memory.bytes(used, usedBytes(size)).fill(0);
		const ring = { size, desc, avail, used, offered: 0, pushed: 0, inFlight: new Map(), nextDescriptor: 0 };
		this.#rings.set(queue, ring);
		const addresses = [lowHalf(desc), highHalf(desc), lowHalf(avail), highHalf(avail), lowHalf(used), highHalf(used)];
		for (const [i, address] of addresses.entries()) void this.#transport.write(QUEUE_ADDRESSES[i]!, 4, address);
	}

	/** Makes a recorded chain available. */
	#offer(request: Request): void {
		const { queue, readable, writable } = request.pop;
		const ring = this.#rings.get(queue);
		/* Of a device that does not answer the ring is full, and the rest is not answered either. */
		if (ring === undefined || ring.inFlight.size >= ring.size) return;
		const pieces = [
			...readable.map((text) => ({ bytes: Buffer.from(text, "base64"), flags: 0 })),
			...writable.map((length) => ({ bytes: Buffer.alloc(length), flags: VIRTQ_DESC_F_WRITE })),
		].map(({ bytes, flags }) => ({ gpa: this.#buffer(bytes), bytes: bytes.length, flags }));
		request.writable = pieces.filter(({ flags }) => flags === VIRTQ_DESC_F_WRITE);
		let head = ring.nextDescriptor;
		while (ring.inFlight.has(head)) head = (head + 1) % ring.size;
		/* A device copies the descriptors when it takes the chain: only heads must not be used twice. */
		if (this.#indirect && pieces.length > 1) {
			const bytes = pieces.length * virtq_desc.sizeof;
			const table = this.#buffer(new Uint8Array(bytes));
			this.#describe({ table, size: pieces.length, first: 0 }, pieces);
			this.#describe({ table: ring.desc, size: ring.size, first: head }, [
				{ gpa: table, bytes, flags: VIRTQ_DESC_F_INDIRECT },
			]);
		} else this.#describe({ table: ring.desc, size: ring.size, first: head }, pieces);
		ring.nextDescriptor = (head + (this.#indirect ? 1 : pieces.length)) % ring.size;
		ring.inFlight.set(head, request);
		this.#open.add(request);
		this.#memory.setU16(ring.avail + availEntry(ring.offered & (ring.size - 1)), head);
		ring.offered = (ring.offered + 1) & 0xffff;
		this.#memory.setU16(ring.avail + virtq_avail.idx, ring.offered);
	}

	/** Writes a chain of descriptors into a table. */
	#describe(
		{ table, size, first }: { table: number; size: number; first: number },
		pieces: readonly { gpa: number; bytes: number; flags: number }[],
	): void {
		for (const [i, { gpa, bytes, flags }] of pieces.entries()) {
			const at = table + virtq_desc.sizeof * ((first + i) % size);
			const next = i < pieces.length - 1 ? VIRTQ_DESC_F_NEXT : 0;
			this.#memory.setU64(at + virtq_desc.addr, gpa);
			this.#memory.setU32(at + virtq_desc.len, bytes);
			this.#memory.setU16(at + virtq_desc.flags, flags | next);
			this.#memory.setU16(at + virtq_desc.next, (first + i + 1) % size);
		}
	}

	/** Places bytes behind the last ones; the memory is used round. */
	#buffer(bytes: Uint8Array): number {
		if (this.#nextBuffer + bytes.length > RAM_BYTES) this.#nextBuffer = MAX_QUEUES * RINGS_BYTES;
		const gpa = this.#nextBuffer;
		this.#nextBuffer += Math.ceil(bytes.length / 16) * 16;
		this.#memory.write(gpa, bytes);
		return gpa;
	}

	#pushed(queue: number, head: number, written: number): void {
		const ring = this.#rings.get(queue);
		const request = ring?.inFlight.get(head);
		if (ring === undefined || request === undefined) return;
		ring.pushed = (ring.pushed + 1) & 0xffff;
		ring.inFlight.delete(head);
		request.answered = true;
		this.#open.delete(request);
		const { answer, number } = request;
		if (answer === undefined) return;
		const { push } = answer;
		const of = `the request of event ${number}`;
		if (written !== push.written) {
			this.#differs(answer.number, `${of} was answered with ${written} bytes, recorded are ${push.written}`);
		}
		const data = Buffer.concat(request.writable.map(({ gpa, bytes }) => this.#memory.bytes(gpa, bytes)));
		const recorded = Buffer.from(push.data, "base64");
		const at = [...recorded].findIndex((byte, i) => i < written && byte !== data[i]);
		if (at < 0) return;
		this.#differs(
			answer.number,
			`byte ${at} of the answer to ${of} is ${hex(data[at] ?? 0)}, recorded is ${hex(recorded[at]!)}`,
		);
	}

	/** Waits for answers that the guest had before event `number`. It waits once for a device that does not answer. */
	async #settle(number: number): Promise<void> {
		const end = performance.now() + LATE_MS;
		const waits = () => [...this.#open].some(({ answer }) => answer !== undefined && answer.number < number);
		while (!this.#gaveUp && waits()) {
			this.#gaveUp = performance.now() > end;
			await sleep(1);
		}
	}

	#compareEnd(): void {
		for (const { number, pop, answer, answered } of this.#requests.values()) {
			if (answered || answer === undefined) continue;
			this.#differs(answer.number, `the request of event ${number} at queue ${pop.queue} was not answered`);
		}
		for (const [queue, ring] of this.#rings) {
			if (this.#memory.u16(ring.used + virtq_used.idx) === ring.pushed) continue;
			this.#differs(0, `answers at queue ${queue} were pushed and never flushed, so a guest does not see them`);
		}
		const interrupted = this.#events.find(({ event }) => event.kind === "interrupt");
		if (interrupted !== undefined && this.#interrupts === 0) {
			this.#differs(interrupted.number, "there was no interrupt at all");
		}
	}

	#differs(number: number, what: string): void {
		this.#differences.push(number === 0 ? what : `event ${number}: ${what}`);
	}
}

function registerName(offset: number): string {
	if (offset >= VIRTIO_MMIO.Config) return `config byte ${offset - VIRTIO_MMIO.Config}`;
	return Object.entries(VIRTIO_MMIO).find(([, at]) => at === offset)?.[0] ?? `register 0x${offset.toString(16)}`;
}

function hex(value: number): string {
	return `0x${(value >>> 0).toString(16)}`;
}
