/*
 * The balloon (virtio 1.2 §5.5): the guest gives pages back to the host. It does so when the host asks for memory
 * (`setTarget`, the inflate queue), and by itself with pages that are free (the reporting queue). A page comes back when the
 * guest touches it, with any content. So what a driver may do wrong here costs the guest its own data, and nothing else.
 *
 *     queue 0 inflate    numbers of pages that the driver no longer uses
 *           1 deflate    those that it will use again
 *           2 statistics one buffer, which the device gives back when it wants newer numbers
 *           3 reporting  buffers that are free pages; the driver does not use them until they come back
 *
 * Queues of features that were not negotiated do not count: all drivers close these gaps, and so does QEMU.
 */
import { logRateLimited } from "../base/log.ts";
import { type SavedState, StateReader } from "../base/state.ts";
import { type BalloonConfig, pagesOf, virtio_balloon_config } from "./balloon-config.ts";
import { type BalloonStatistics, readStatistics } from "./balloon-statistics.ts";
import type { Activation, VirtioDevice } from "./device.ts";
import type { DeviceKind, DiscardPages } from "./device-kind.ts";
import type { Chain, Virtqueue } from "./queue.ts";

export const VIRTIO_ID_BALLOON = 5;

export const VIRTIO_BALLOON_F_STATS_VQ = 1n << 1n;
export const VIRTIO_BALLOON_F_DEFLATE_ON_OOM = 1n << 2n;
export const VIRTIO_BALLOON_F_REPORTING = 1n << 5n;

/** A page of the balloon, whatever the guest's own are. */
const PAGE_BYTES = 4096;
/** The most page numbers of one buffer. Linux sends 256; pages beyond stay with the guest. */
const MAX_PAGES = 1024;
/** The most bytes that one chain reports. Linux has 32 buffers of 4 MiB at most. */
const MAX_REPORTED_BYTES = 128 * 1024 * 1024;
const STATISTICS_MS = 2000;

/** The memory balloon (virtio 1.2 §5.5), with statistics and free-page reporting. */
export class BalloonDevice implements VirtioDevice {
	readonly name: string;
	readonly deviceId = VIRTIO_ID_BALLOON;
	readonly features: bigint;
	readonly queueSizes: readonly number[];
	readonly config = new Uint8Array(virtio_balloon_config.sizeof);
	readonly #view = new DataView(this.config.buffer);
	readonly #discard: DiscardPages;
	readonly #pages = new Uint32Array(MAX_PAGES);
	/** Its configuration says the target, so a saved one does not count. */
	readonly #hasTarget: boolean;
	#activation: Activation | undefined;
	/** What to do for each queue, by index. */
	#serve: ((queue: Virtqueue) => void)[] = [];
	#statsq: Virtqueue | undefined;
	/** The driver's buffer for statistics, until newer ones are wanted. */
	#statsChain: Chain | undefined;
	#givenBackBytes = 0;
	#waiting: ((statistics: BalloonStatistics | undefined) => void)[] = [];

	/**
	 * @param discard gives pages back to the host
	 * @throws UsageError ERR_CONFIG_BALLOON
	 */
	constructor(discard: DiscardPages, config: BalloonConfig = {}, name = "virtio-balloon0") {
		const { targetMiB = 0, deflateOnOom = true, reporting = true } = config;
		this.name = name;
		this.#discard = (hva, bytes) => {
			this.#givenBackBytes += bytes;
			discard(hva, bytes);
		};
		this.#hasTarget = config.targetMiB !== undefined;
		this.features =
			VIRTIO_BALLOON_F_STATS_VQ |
			(deflateOnOom ? VIRTIO_BALLOON_F_DEFLATE_ON_OOM : 0n) |
			(reporting ? VIRTIO_BALLOON_F_REPORTING : 0n);
		this.queueSizes = reporting ? [128, 128, 128, 128] : [128, 128, 128];
		this.#view.setUint32(virtio_balloon_config.num_pages, pagesOf(targetMiB), true);
	}

	/** MiB that the guest is to give to the host. */
	get targetMiB(): number {
		return this.#view.getUint32(virtio_balloon_config.num_pages, true) / 256;
	}

	/** MiB that the guest's driver says to have given. */
	get actualMiB(): number {
		return this.#view.getUint32(virtio_balloon_config.actual, true) / 256;
	}

	/** What the guest has given back so far, of its own and when asked; what it gives and takes again counts each time. */
	get givenBackBytes(): number {
		return this.#givenBackBytes;
	}

	/**
	 * Asks the guest to give that much of its memory to the host, or to take some of it back. The driver does so step by
	 * step, see `actualMiB`.
	 *
	 * @param mib of all that the guest gives, 0 and up
	 * @throws UsageError ERR_CONFIG_BALLOON
	 */
	setTarget(mib: number): void {
		this.#view.setUint32(virtio_balloon_config.num_pages, pagesOf(mib), true);
		this.#activation?.configChanged();
	}

	/**
	 * What the guest's kernel says about its memory now. Undefined when it has no driver or no statistics, or does not
	 * answer in time, as while the machine is paused.
	 *
	 * @param waitMs how long an answer may take; 2 s when missing
	 */
	statistics(waitMs: number = STATISTICS_MS): Promise<BalloonStatistics | undefined> {
		if (this.#statsq === undefined) return Promise.resolve(undefined);
		return new Promise((resolve) => {
			const timer = setTimeout(() => answered(undefined), waitMs);
			const answered = (statistics: BalloonStatistics | undefined) => {
				clearTimeout(timer);
				this.#waiting = this.#waiting.filter((other) => other !== answered);
				resolve(statistics);
			};
			this.#waiting.push(answered);
			this.#returnStatistics();
			this.#statsq?.flush();
		});
	}

	activate(activation: Activation): void {
		const { features } = activation;
		this.#activation = activation;
		this.#serve = [(queue) => this.#inflate(queue), deflate];
		if ((features & VIRTIO_BALLOON_F_STATS_VQ) !== 0n) {
			this.#statsq = activation.queues[this.#serve.length];
			this.#serve.push((queue) => this.#takeStatistics(queue));
		}
		if ((features & VIRTIO_BALLOON_F_REPORTING) !== 0n) this.#serve.push((queue) => this.#report(queue));
	}

	notify(index: number): void {
		const queue = this.#activation?.queues[index];
		if (queue === undefined) return;
		this.#serve[index]?.(queue);
		queue.flush();
	}

	/** The driver writes `actual`; all else is the device's. */
	writeConfig(offset: number, data: Uint8Array): void {
		if (offset === virtio_balloon_config.actual && data.length === 4) this.config.set(data, offset);
	}

	reset(): void {
		this.#activation = undefined;
		this.#serve = [];
		this.#statsq = undefined;
		this.#statsChain = undefined;
		this.#view.setUint32(virtio_balloon_config.actual, 0, true);
		for (const answered of this.#waiting) answered(undefined);
	}

	/** The buffer for statistics goes back to its queue. */
	async quiesce(): Promise<void> {
		if (this.#statsChain !== undefined) this.#statsq?.unpop(this.#statsChain);
		this.#statsChain = undefined;
	}

	/** Which pages the guest has given is in its own memory. */
	save(): SavedState {
		const { num_pages, actual } = virtio_balloon_config;
		return { version: 1, target: this.#view.getUint32(num_pages, true), actual: this.#view.getUint32(actual, true) };
	}

	restore(state: unknown, activation: Activation | undefined): void {
		const reader = new StateReader(this.name, state).version(1);
		const target = reader.u32("target");
		const actual = reader.u32("actual");
		if (!this.#hasTarget) this.#view.setUint32(virtio_balloon_config.num_pages, target, true);
		this.#view.setUint32(virtio_balloon_config.actual, actual, true);
		if (activation !== undefined) this.activate(activation);
	}

	async close(): Promise<void> {
		this.reset();
	}

	#inflate(queue: Virtqueue): void {
		for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
			const pages = this.#pages.subarray(0, chain.readable.totalBytes >>> 2);
			chain.readable.copyTo(new Uint8Array(pages.buffer, 0, pages.byteLength));
			this.#discardPages(pages.sort(), queue);
			queue.push(chain, 0);
		}
	}

	/** Gives back pages by their numbers, adjacent ones at once. Each call but one counts as a chain of this turn. */
	#discardPages(pages: Uint32Array, queue: Virtqueue): void {
		const { memory } = this.#activation!;
		let start = 0;
		let end = 0;
		for (const page of pages) {
			const gpa = page * PAGE_BYTES;
			const window = memory.find(gpa, PAGE_BYTES);
			if (window === undefined) {
				logRateLimited(this.name, "warn", `the driver gives page ${page}, which is not in RAM`);
				continue;
			}
			const hva = window.hva + gpa - window.gpa;
			if (hva === end) {
				end += PAGE_BYTES;
				continue;
			}
			if (end > start) {
				this.#discard(start, end - start);
				queue.spend();
			}
			start = hva;
			end = hva + PAGE_BYTES;
		}
		if (end > start) this.#discard(start, end - start);
	}

	#report(queue: Virtqueue): void {
		for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
			const { count, hvas, lengths } = chain.writable;
			let room = MAX_REPORTED_BYTES;
			for (let i = 0; i < count && room > 0; i++) {
				const start = Math.ceil(hvas[i]! / PAGE_BYTES) * PAGE_BYTES;
				const last = hvas[i]! + Math.min(lengths[i]!, room);
				const bytes = Math.floor(last / PAGE_BYTES) * PAGE_BYTES - start;
				room -= lengths[i]!;
				if (bytes > 0) this.#discard(start, bytes);
			}
			queue.push(chain, 0);
		}
	}

	#takeStatistics(queue: Virtqueue): void {
		for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
			this.#returnStatistics();
			this.#statsChain = chain;
			if (this.#waiting.length === 0) continue;
			const statistics = readStatistics(chain.readable);
			for (const answered of this.#waiting) answered(statistics);
		}
	}

	/** Gives the buffer back, so that the driver fills it again. */
	#returnStatistics(): void {
		if (this.#statsChain !== undefined) this.#statsq?.push(this.#statsChain, 0);
		this.#statsChain = undefined;
	}
}

/** A page comes back when the guest touches it. */
function deflate(queue: Virtqueue): void {
	for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) queue.push(chain, 0);
}

/** The field of MachineConfig. */
export interface BalloonFields {
	/** A memory balloon (virtio-balloon) by which the guest gives memory back to the host; none when missing. */
	balloon?: BalloonConfig | undefined;
}

export const balloonKind: DeviceKind<BalloonFields> = {
	plan: ({ balloon }) => {
		if (balloon === undefined) return [];
		const config = { ...balloon };
		pagesOf(config.targetMiB ?? 0);
		return [{ id: "balloon", create: (_, { discard }) => new BalloonDevice(discard, config) }];
	},
};
