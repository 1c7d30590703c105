/*
 * What one device has seen: the steps of its driver, its queues, its interrupts, and what went wrong.
 */
import type { TraceEvent } from "../trace/event.ts";
import { statusBits } from "../trace/registers.ts";
import { describeRequest } from "../trace/write/text.ts";

/** Violations and failed requests that are kept. */
const MAX_KEPT = 20;

/** One queue. */
export interface QueueStory {
	readonly name: string | undefined;
	kicks: number;
	chains: number;
	used: number;
	/** Heads that the device has. */
	readonly inFlight: Set<number>;
	/** Longest and total time that the device had a chain, in nanoseconds. */
	longest: number;
	took: number;
	lastT: number;
}

type DeviceEvent = Extract<TraceEvent, { device: string }>;

export class DeviceStory {
	readonly name: string;
	described: { readonly id: string; readonly deviceId: number; readonly gsi: number } | undefined;
	/** When the guest first touched it. */
	firstT: number | undefined;
	/** When DRIVER_OK was set. */
	readyT: number | undefined;
	/** When its first chain came. */
	firstChainT: number | undefined;
	/** What that asked for. */
	firstRequest: string | undefined;
	status = 0;
	bits: readonly string[] = [];
	accesses = 0;
	readonly queues = new Map<number, QueueStory>();
	interrupts = 0;
	lastInterruptT: number | undefined;
	acknowledged = 0;
	/** Acknowledgements are in the trace. */
	sawAccess = false;
	readonly violations: { readonly what: string; readonly needsReset: boolean; readonly t: number; count: number }[] =
		[];
	/** Answers that are errors, by name. */
	readonly errors = new Map<string, number>();

	constructor(name: string) {
		this.name = name;
	}

	/** What `--disk` and the like call it. */
	get id(): string {
		return this.described?.id ?? this.name;
	}

	/** Its Status when the machine stood still: of a restored machine there may be no other sign of its driver. */
	stands(status: number): void {
		this.status = status;
		this.bits = statusBits(status);
	}

	/** A driver has it, or has had it. */
	get isTaken(): boolean {
		return this.readyT !== undefined || this.bits.includes("DRIVER_OK");
	}

	add(event: DeviceEvent): void {
		switch (event.kind) {
			case "access":
				this.firstT ??= event.t;
				this.accesses++;
				this.sawAccess = true;
				return;
			case "status":
				this.firstT ??= event.t;
				this.status = event.status;
				this.bits = event.bits;
				if (event.bits.includes("DRIVER_OK")) this.readyT ??= event.t;
				if (event.status === 0) for (const queue of this.queues.values()) queue.inFlight.clear();
				return;
			case "violation":
				this.#violation(event.what, event.needsReset, event.t);
				return;
			case "interrupt":
				this.interrupts++;
				this.lastInterruptT = event.t;
				return;
			case "acknowledge":
				this.acknowledged++;
				return;
			case "kick":
			case "chain":
			case "used":
			case "unpop":
				this.#queue(event);
				return;
			default:
				return;
		}
	}

	#queue(event: Extract<DeviceEvent, { kind: "kick" | "chain" | "used" | "unpop" }>): void {
		let queue = this.queues.get(event.queue);
		if (queue === undefined) {
			const numbers = { kicks: 0, chains: 0, used: 0, longest: 0, took: 0, lastT: 0 };
			queue = { name: event.name, ...numbers, inFlight: new Set() };
			this.queues.set(event.queue, queue);
		}
		queue.lastT = event.t;
		if (event.kind === "kick") queue.kicks++;
		else if (event.kind === "unpop") queue.inFlight.delete(event.head);
		else if (event.kind === "chain") {
			queue.chains++;
			queue.inFlight.add(event.head);
			this.firstChainT ??= event.t;
			if (event.request !== undefined) this.firstRequest ??= describeRequest(event.request);
		} else {
			queue.used++;
			queue.inFlight.delete(event.head);
			queue.took += event.took ?? 0;
			queue.longest = Math.max(queue.longest, event.took ?? 0);
			const { answer } = event;
			if (answer === undefined) return;
			if ("status" in answer && answer.status !== "VIRTIO_BLK_S_OK") this.#error(answer.status);
			/* A file that is not there is no error of the device. */
			if ("error" in answer && answer.error === 5) this.#error("EIO");
		}
	}

	#error(name: string): void {
		this.errors.set(name, (this.errors.get(name) ?? 0) + 1);
	}

	#violation(what: string, needsReset: boolean, t: number): void {
		const known = this.violations.find((one) => one.what === what);
		if (known !== undefined) known.count++;
		else if (this.violations.length < MAX_KEPT) this.violations.push({ what, needsReset, t, count: 1 });
	}
}
