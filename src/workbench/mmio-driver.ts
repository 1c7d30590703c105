/*
 * A driver for a device, without a guest: it speaks with it through the registers of virtio-mmio (virtio 1.2 §4.2), in the
 * order of Linux, and has its queues in ordinary memory. Checks of labs use it, and tests of users by test-driver.ts.
 */
import { GuestMemory } from "../base/guest-memory.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { MmioTransport } from "../virtio/mmio.ts";
import {
	ACKNOWLEDGE,
	DRIVER,
	DRIVER_OK,
	FEATURES_OK,
	VIRTIO_F_EVENT_IDX,
	VIRTIO_F_INDIRECT_DESC,
	VIRTIO_MMIO,
} from "../virtio/spec.ts";
import { layoutAt, type Part, RingDriver } from "./ring-driver.ts";

const RAM_BYTES = 16 << 20;
const RINGS = 0x1000;
const RING_BYTES = 0x3000;
/** Buffers lie from here on, and are used round. */
const BUFFERS = 0x400000;
const MAX_QUEUES = 256;
/** No queue is larger. */
const SIZE = 64;

/** A queue, and which descriptor is the next. */
interface Queue {
	readonly ring: RingDriver;
	readonly size: number;
	next: number;
}

/** A buffer that the device reads, with these bytes, or one of so many that it writes. */
export type Piece = Uint8Array | number;

/** What came back. */
export interface Answer {
	readonly written: number;
	/** What the writable buffers hold. */
	readonly data: Buffer;
}

export class MmioDriver {
	/** Interrupts so far. */
	interrupts = 0;
	readonly #transport: MmioTransport;
	readonly #bytes: Uint8Array;
	readonly #queueCount: number;
	#queues: Queue[] = [];
	#free = BUFFERS;

	constructor(device: VirtioDevice) {
		const buffer = new ArrayBuffer(RAM_BYTES);
		this.#bytes = new Uint8Array(buffer);
		this.#queueCount = Math.min(device.queueSizes.length, MAX_QUEUES);
		const memory = new GuestMemory([{ gpa: 0, sizeBytes: RAM_BYTES, hva: 0, buffer }]);
		const line = { raise: () => void this.interrupts++ };
		this.#transport = new MmioTransport(device, { memory, line, interruptStatus: new Int32Array(1) });
	}

	read(offset: number): number {
		return this.#transport.read(offset, 4);
	}

	#write(offset: number, value: number): void {
		void this.#transport.write(offset, 4, value);
	}

	/** Bytes of the configuration space. */
	config(offset: number, length: number): Uint8Array {
		return Uint8Array.from({ length }, (_, i) => this.#transport.read(VIRTIO_MMIO.Config + offset + i, 1));
	}

	/** From reset to DRIVER_OK. @returns what went wrong */
	start(): string | undefined {
		this.#write(VIRTIO_MMIO.Status, 0);
		this.#write(VIRTIO_MMIO.Status, ACKNOWLEDGE);
		this.#write(VIRTIO_MMIO.Status, ACKNOWLEDGE | DRIVER);
		for (const sel of [1, 0]) {
			this.#write(VIRTIO_MMIO.DeviceFeaturesSel, sel);
			const without = sel === 0 ? Number(VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC) : 0;
			this.#write(VIRTIO_MMIO.DriverFeaturesSel, sel);
			this.#write(VIRTIO_MMIO.DriverFeatures, this.read(VIRTIO_MMIO.DeviceFeatures) & ~without);
		}
		this.#write(VIRTIO_MMIO.Status, ACKNOWLEDGE | DRIVER | FEATURES_OK);
		if ((this.read(VIRTIO_MMIO.Status) & FEATURES_OK) === 0) return "it refuses the features";
		this.#queues = Array.from({ length: this.#queueCount }, (_, index) => this.#setUp(index));
		this.#write(VIRTIO_MMIO.Status, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
		return undefined;
	}

	#setUp(index: number): Queue {
		this.#write(VIRTIO_MMIO.QueueSel, index);
		const size = Math.min(this.read(VIRTIO_MMIO.QueueNumMax), SIZE);
		const layout = layoutAt(RINGS + index * RING_BYTES, size);
		this.#bytes.fill(0, layout.desc, layout.desc + RING_BYTES);
		this.#write(VIRTIO_MMIO.QueueNum, size);
		this.#write(VIRTIO_MMIO.QueueDescLow, layout.desc);
		this.#write(VIRTIO_MMIO.QueueDriverLow, layout.avail);
		this.#write(VIRTIO_MMIO.QueueDeviceLow, layout.used);
		this.#write(VIRTIO_MMIO.QueueReady, 1);
		return { ring: new RingDriver(new DataView(this.#bytes.buffer), layout), size, next: 0 };
	}

	/** Resolves when the device has nothing of the driver's any more. */
	async reset(): Promise<void> {
		await this.#transport.write(VIRTIO_MMIO.Status, 4, 0);
	}

	/** Writes QueueNotify. */
	kick(queue = 0): void {
		this.#write(VIRTIO_MMIO.QueueNotify, queue);
	}

	/** Puts a request on a queue without a kick. @returns its head and buffers */
	offer(buffers: readonly Piece[], queue = 0): { head: number; parts: Part[] } {
		const to = this.#queue(queue);
		if (buffers.length === 0 || buffers.length > to.size) {
			throw new Error(`queue ${queue} has ${to.size} descriptors, and a request of ${buffers.length} buffers was made`);
		}
		const lengths = buffers.map((buffer) => (typeof buffer === "number" ? buffer : buffer.length) + 16);
		const bytes = lengths.reduce((sum, length) => sum + length);
		if (bytes > RAM_BYTES - BUFFERS)
			throw new Error(`a request of ${bytes} bytes does not fit into the driver's memory`);
		if (this.#free + bytes > RAM_BYTES) this.#free = BUFFERS;
		const parts = buffers.map((buffer): Part => {
			const length = typeof buffer === "number" ? buffer : buffer.length;
			const address = this.#free;
			this.#free += length + 16;
			if (typeof buffer !== "number") this.#bytes.set(buffer, address);
			else this.#bytes.fill(0xee, address, address + length);
			return { address, length, writable: typeof buffer === "number" };
		});
		const descriptors = parts.map(() => to.next++ % to.size);
		return { head: to.ring.chain(descriptors, parts), parts };
	}

	#queue(index: number): Queue {
		const queue = this.#queues[index];
		if (queue === undefined) throw new Error(`there is no queue ${index}: the device has ${this.#queues.length}`);
		return queue;
	}

	/** The requests that came back, by their heads. */
	collect(queue = 0): Map<number, number> {
		return new Map(
			this.#queue(queue)
				.ring.collect()
				.map(({ id, written }) => [id, written]),
		);
	}

	/** Sends one request and takes its answer; undefined when none comes at once. */
	request(buffers: readonly Piece[]): Answer | undefined {
		const { head, parts } = this.offer(buffers);
		this.kick();
		const written = this.collect().get(head);
		return written === undefined ? undefined : { written, data: this.dataOf(parts) };
	}

	/** What the writable buffers hold now, one after the other. */
	dataOf(parts: readonly Part[]): Buffer {
		const pieces = parts
			.filter(({ writable }) => writable)
			.map(({ address, length }) => this.#bytes.slice(address, address + length));
		return Buffer.concat(pieces);
	}
}
