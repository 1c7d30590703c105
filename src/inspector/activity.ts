/*
 * What happens on a machine, in numbers and as a log: the inspector's observer. Events are counted, and the page gets the
 * counts a few times in a second. The log takes only a few entries in each of these periods, so that a busy guest is not
 * slowed down by its own description.
 */
import type { ObservedChain, Observer } from "../base/observer.ts";
import { KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_MMIO } from "../kvm/constants.ts";
import { decoderOf } from "../trace/decode/table.ts";
import { typeOfName } from "../trace/device-types.ts";
import { describeRequest } from "../trace/write/text.ts";
import { BoundedLog } from "./bounded-log.ts";

/** How often each thing has happened since the machine was made. */
export interface Counts {
	/** Exits to TypeScript by port I/O. */
	io: number;
	/** By an access to memory where no RAM is. */
	mmio: number;
	/** Because we asked for it: a pause, or the end. */
	kicked: number;
	/** For any other reason. */
	other: number;
	/** Notifications of a queue, by an ioeventfd: no exit. */
	kicks: number;
	/** Chains that devices have taken. */
	chains: number;
	/** Interrupts of devices, by an irqfd: no exit. */
	interrupts: number;
}

/** A line of the log. */
export interface LogEntry {
	/** Milliseconds since the machine was made. */
	readonly ms: number;
	readonly device: string;
	readonly queue?: number;
	readonly head?: number;
	/** Bytes that the device could read and write. */
	readonly readable?: number;
	readonly writable?: number;
	/** Bytes that it has written. */
	readonly written?: number;
	/** From taken to given back. */
	readonly micros?: number;
	/** What it asks for: "VIRTIO_BLK_T_IN sector 8 4096 bytes"; missing where that is not known. */
	readonly request?: string;
	/** The answer: "VIRTIO_BLK_S_OK". */
	readonly answer?: string;
	/** A new device status. */
	readonly status?: number;
}

/** What has passed through one queue. */
export interface QueueCounts {
	kicks: number;
	chains: number;
	bytes: number;
	/** The most chains in flight since the last period began. */
	peak: number;
	inFlight: number;
}

const MOST_ENTRIES = 512;
const MOST_ENTRIES_PER_PERIOD = 40;

export class Activity implements Observer {
	readonly counts: Counts = {
		io: 0,
		mmio: 0,
		kicked: 0,
		other: 0,
		kicks: 0,
		chains: 0,
		interrupts: 0,
	};
	/** By "device#queue". */
	readonly queues = new Map<string, QueueCounts>();
	/** Accesses to devices, by their name. */
	readonly accesses = new Map<string, number>();
	readonly log = new BoundedLog<LogEntry>(MOST_ENTRIES);
	/** Requests that the log has left out. */
	left = 0;
	readonly #startMs = performance.now();
	#room = MOST_ENTRIES_PER_PERIOD;
	/** Requests in flight that the log will have, by "device#queue#head". */
	readonly #open = new Map<string, { entry: LogEntry; chain: ObservedChain; since: number }>();

	/** Milliseconds since the machine was made. */
	get ms(): number {
		return performance.now() - this.#startMs;
	}

	/** Lets the log take entries again. Called a few times in a second. */
	beginPeriod(): void {
		this.#room = MOST_ENTRIES_PER_PERIOD;
		for (const queue of this.queues.values()) queue.peak = queue.inFlight;
	}

	exit(_vcpu: number, reason: number): void {
		if (reason === KVM_EXIT_IO) this.counts.io++;
		else if (reason === KVM_EXIT_MMIO) this.counts.mmio++;
		else if (reason === KVM_EXIT_INTR) this.counts.kicked++;
		else this.counts.other++;
	}

	access(_bus: "pio" | "mmio", device: string): void {
		this.accesses.set(device, (this.accesses.get(device) ?? 0) + 1);
	}

	status(device: string, status: number): void {
		/* A reset gives the device all its chains back. */
		for (const key of this.#open.keys()) if (status === 0 && key.startsWith(`${device}#`)) this.#open.delete(key);
		for (const [key, queue] of this.queues) if (status === 0 && key.startsWith(`${device}#`)) queue.inFlight = 0;
		this.#add({ ms: this.ms, device, status });
	}

	kick(device: string, queue: number): void {
		this.counts.kicks++;
		this.#queue(device, queue).kicks++;
	}

	pop(device: string, queue: number, { head, readable, writable }: ObservedChain): void {
		this.counts.chains++;
		const counts = this.#queue(device, queue);
		counts.chains++;
		counts.bytes += readable.totalBytes + writable.totalBytes;
		counts.inFlight++;
		counts.peak = Math.max(counts.peak, counts.inFlight);
		if (this.#room <= 0) {
			this.left++;
			return;
		}
		this.#room--;
		const chain = { head, readable, writable };
		const request = decoderOf(typeOfName(device))?.request?.({ queue, chain, written: 0 });
		const sizes = { readable: readable.totalBytes, writable: writable.totalBytes };
		const entry = { ms: this.ms, device, queue, head, ...sizes, ...(request && { request: describeRequest(request) }) };
		this.#open.set(`${device}#${queue}#${head}`, { entry, chain, since: performance.now() });
	}

	unpop(device: string, queue: number, head: number): void {
		const counts = this.#queue(device, queue);
		counts.inFlight = Math.max(0, counts.inFlight - 1);
		this.#open.delete(`${device}#${queue}#${head}`);
	}

	push(device: string, queue: number, head: number, written: number): void {
		const counts = this.#queue(device, queue);
		counts.inFlight = Math.max(0, counts.inFlight - 1);
		if (this.#open.size === 0) return;
		const key = `${device}#${queue}#${head}`;
		const open = this.#open.get(key);
		if (open === undefined) return;
		this.#open.delete(key);
		const answered = decoderOf(typeOfName(device))?.answer?.({ queue, chain: open.chain, written });
		const answer = answered === undefined ? {} : { answer: describeRequest(answered) };
		this.log.add({ ...open.entry, ...answer, written, micros: Math.round((performance.now() - open.since) * 1000) });
	}

	interrupt(): void {
		this.counts.interrupts++;
	}

	#add(entry: LogEntry): void {
		if (this.#room <= 0) this.left++;
		else this.log.add(entry);
		this.#room--;
	}

	#queue(device: string, queue: number): QueueCounts {
		const key = `${device}#${queue}`;
		let counts = this.queues.get(key);
		if (counts === undefined) {
			counts = { kicks: 0, chains: 0, bytes: 0, peak: 0, inFlight: 0 };
			this.queues.set(key, counts);
		}
		return counts;
	}
}
