/*
 * A virtio driver for tests: it talks to a transport only through its registers, in the order in which Linux does
 * (drivers/virtio/virtio_mmio.c), and writes real rings in guest memory. For wrong moves see FakeQueue's `raw...`
 * methods.
 *
 *     const driver = new FakeDriver(device);
 *     driver.start();
 *     const used = await driver.queue(0).request([readable(header), writable(512), writable(1)]);
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Enter } from "../../src/base/enter.ts";
import type { GuestMemory } from "../../src/base/guest-memory.ts";
import { Observers } from "../../src/base/observer.ts";
import type { SavedState } from "../../src/base/state.ts";
import { highHalf, lowHalf } from "../../src/base/u64.ts";
import type { VirtioDevice } from "../../src/virtio/device.ts";
import { MmioTransport } from "../../src/virtio/mmio.ts";
import type { QueueLayout } from "../../src/virtio/queue.ts";
import {
	ACKNOWLEDGE,
	DEVICE_NEEDS_RESET,
	DRIVER,
	DRIVER_OK,
	FEATURES_OK,
	VIRTIO_F_EVENT_IDX,
	VIRTIO_F_INDIRECT_DESC,
	VIRTIO_MMIO,
} from "../../src/virtio/spec.ts";
import { FakeQueue } from "./fake-queue.ts";
import { FakeRam } from "./fake-ram.ts";

export interface DriverOptions {
	ram?: FakeRam;
	/** Use VIRTIO_F_EVENT_IDX; on unless false. */
	eventIdx?: boolean;
	/** Negotiate VIRTIO_F_INDIRECT_DESC; on unless false. */
	indirect?: boolean;
	/** Device features not to accept. */
	without?: bigint;
	/** Size of every queue; the device's QueueNumMax unless given. */
	queueSize?: number;
	/** Which region of the RAM the rings are in; any unless given. */
	ringRegion?: number;
	/** The way into the machine; direct unless given. */
	enter?: Enter;
}

/** What a driver tells a device about a queue. */
export type QueuePlace = Pick<QueueLayout, "size" | "desc" | "avail" | "used">;

export class FakeDriver {
	readonly ram: FakeRam;
	transport: MmioTransport;
	device: VirtioDevice;
	/** How often the line was raised since the driver exists. */
	interrupts = 0;
	/** The causes acknowledged by `acknowledge`, all ORed. */
	causes = 0;
	readonly options: DriverOptions;
	/** Who hears of what passes between this driver and its device. */
	readonly observers = new Observers();
	#queues: FakeQueue[] = [];
	#waiting: (() => void)[] = [];

	constructor(device: VirtioDevice, options: DriverOptions = {}) {
		this.device = device;
		this.options = options;
		this.ram = options.ram ?? new FakeRam();
		this.transport = this.transportFor(device);
	}

	/** A transport on this driver's RAM and interrupt line. */
	transportFor(device: VirtioDevice): MmioTransport {
		const line = { raise: () => this.#raised() };
		const { memory, observers } = this;
		const { enter } = this.options;
		return new MmioTransport(device, { memory, line, interruptStatus: new Int32Array(1), enter, observers });
	}

	/**
	 * Moves to another device, as a machine that is restored from a snapshot: saves this one, restores there and lets it
	 * run. Returns the state, which has gone through structuredClone.
	 */
	async moveTo(device: VirtioDevice): Promise<SavedState> {
		await this.transport.quiesce();
		const state = structuredClone(this.transport.save());
		this.device = device;
		this.transport = this.transportFor(device);
		this.transport.restore(state);
		this.transport.resume();
		return state;
	}

	get memory(): GuestMemory {
		return this.ram.memory;
	}

	read(offset: number): number {
		return this.transport.read(offset, 4);
	}

	write(offset: number, value: number): void {
		void this.transport.write(offset, 4, value);
	}

	get status(): number {
		return this.read(VIRTIO_MMIO.Status);
	}

	addStatus(bit: number): number {
		this.write(VIRTIO_MMIO.Status, this.status | bit);
		return this.status;
	}

	get needsReset(): boolean {
		return (this.status & DEVICE_NEEDS_RESET) !== 0;
	}

	deviceFeatures(): bigint {
		let features = 0n;
		for (const sel of [1, 0]) {
			this.write(VIRTIO_MMIO.DeviceFeaturesSel, sel);
			features = (features << 32n) | BigInt(this.read(VIRTIO_MMIO.DeviceFeatures));
		}
		return features;
	}

	setDriverFeatures(features: bigint): void {
		for (const sel of [1, 0]) {
			this.write(VIRTIO_MMIO.DriverFeaturesSel, sel);
			this.write(VIRTIO_MMIO.DriverFeatures, Number((features >> BigInt(32 * sel)) & 0xffff_ffffn));
		}
	}

	/** Reset to FEATURES_OK. Returns the agreed features. @throws Error when the device refuses them */
	negotiate(): bigint {
		const { eventIdx = true, indirect = true, without = 0n } = this.options;
		this.reset();
		this.addStatus(ACKNOWLEDGE);
		this.addStatus(DRIVER);
		let features = this.deviceFeatures() & ~without;
		if (!eventIdx) features &= ~VIRTIO_F_EVENT_IDX;
		if (!indirect) features &= ~VIRTIO_F_INDIRECT_DESC;
		this.setDriverFeatures(features);
		if ((this.addStatus(FEATURES_OK) & FEATURES_OK) === 0) throw new Error("the device refused the features");
		return features;
	}

	/** Places queue `index` and makes it ready, as vm_setup_vq does. */
	setUpQueue(index: number): FakeQueue {
		const { eventIdx = true, indirect = true, queueSize, ringRegion } = this.options;
		this.write(VIRTIO_MMIO.QueueSel, index);
		if (this.read(VIRTIO_MMIO.QueueReady) !== 0) throw new Error(`queue ${index} is ready already`);
		const max = this.read(VIRTIO_MMIO.QueueNumMax);
		if (max === 0) throw new Error(`there is no queue ${index}`);
		const size = Math.min(queueSize ?? max, max);
		const queue = new FakeQueue(this, { index, size, eventIdx, indirect, region: ringRegion });
		this.placeQueue(index, queue);
		return queue;
	}

	/** Writes the queue registers, with any values. */
	placeQueue(index: number, { size, desc, avail, used }: QueuePlace): void {
		this.write(VIRTIO_MMIO.QueueSel, index);
		this.write(VIRTIO_MMIO.QueueNum, size);
		const addresses = [
			[VIRTIO_MMIO.QueueDescLow, desc],
			[VIRTIO_MMIO.QueueDriverLow, avail],
			[VIRTIO_MMIO.QueueDeviceLow, used],
		] as const;
		for (const [low, gpa] of addresses) {
			this.write(low, lowHalf(gpa));
			this.write(low + 4, highHalf(gpa));
		}
		this.write(VIRTIO_MMIO.QueueReady, 1);
	}

	/** The whole way from reset to DRIVER_OK, with all queues. */
	start(): this {
		this.negotiate();
		this.#queues = this.device.queueSizes.map((_, index) => this.setUpQueue(index));
		this.addStatus(DRIVER_OK);
		return this;
	}

	queue(index: number): FakeQueue {
		const queue = this.#queues[index];
		if (queue === undefined) throw new Error(`queue ${index} was not started`);
		return queue;
	}

	reset(): void {
		this.write(VIRTIO_MMIO.Status, 0);
		if (this.status !== 0) throw new Error("the device did not reset");
	}

	/** Writes 0 to Status, for a device that may have requests in flight; resolves when a vCPU would go on. */
	async resetSlowly(): Promise<void> {
		await this.transport.write(VIRTIO_MMIO.Status, 4, 0);
	}

	/** Bytes of the config space, read one by one. */
	config(offset: number, length: number): Uint8Array {
		return Uint8Array.from({ length }, (_, i) => this.transport.read(VIRTIO_MMIO.Config + offset + i, 1));
	}

	/** What an interrupt handler does first: reads InterruptStatus and acknowledges it. */
	acknowledge(): number {
		const causes = this.read(VIRTIO_MMIO.InterruptStatus);
		this.write(VIRTIO_MMIO.InterruptACK, causes);
		this.causes |= causes;
		return causes;
	}

	/** Resolves at the next interrupt. @throws Error when none comes within two seconds */
	async interrupted(): Promise<void> {
		const limit = new AbortController();
		const raised = new Promise<void>((resolve) => this.#waiting.push(resolve));
		const late = sleep(2000, "late", { signal: limit.signal }).catch(() => "early");
		const first = await Promise.race([raised, late]);
		limit.abort();
		if (first === "late") throw new Error("no interrupt within two seconds");
	}

	#raised(): void {
		this.interrupts++;
		const waiting = this.#waiting;
		this.#waiting = [];
		for (const resolve of waiting) resolve();
	}
}
