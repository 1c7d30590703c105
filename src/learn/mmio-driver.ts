/*
 * A driver for a device of a student's: it speaks with it through the registers of virtio-mmio (virtio 1.2 §4.2), in the
 * order of Linux, and has one queue in ordinary memory.
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

const RAM_BYTES = 1 << 20;
const RINGS = 0x1000;
/** Buffers lie from here on. */
const BUFFERS = 0x10000;
const SIZE = 64;

/** A buffer that the device reads, with these bytes, or one of so many that it writes. */
export type Piece = Uint8Array | number;

/** What came back. */
export interface Answer {
	readonly written: number;
	/** What the writable buffers hold. */
	readonly data: Uint8Array;
}

export class MmioDriver {
	/** Interrupts so far. */
	interrupts = 0;
	readonly #transport: MmioTransport;
	readonly #bytes: Uint8Array;
	readonly #ring: RingDriver;
	#free = BUFFERS;
	#descriptor = 0;

	constructor(device: VirtioDevice) {
		const buffer = new ArrayBuffer(RAM_BYTES);
		this.#bytes = new Uint8Array(buffer);
		this.#ring = new RingDriver(new DataView(buffer), layoutAt(RINGS, SIZE));
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
		this.#write(VIRTIO_MMIO.QueueSel, 0);
		const most = this.read(VIRTIO_MMIO.QueueNumMax);
		if (most < SIZE) return `its queue 0 has ${most} entries, ${SIZE} at least are needed`;
		const { desc, avail, used } = this.#ring.layout;
		this.#write(VIRTIO_MMIO.QueueNum, SIZE);
		this.#write(VIRTIO_MMIO.QueueDescLow, desc);
		this.#write(VIRTIO_MMIO.QueueDriverLow, avail);
		this.#write(VIRTIO_MMIO.QueueDeviceLow, used);
		this.#write(VIRTIO_MMIO.QueueReady, 1);
		this.#write(VIRTIO_MMIO.Status, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
		return undefined;
	}

	reset(): void {
		this.#write(VIRTIO_MMIO.Status, 0);
	}

	/** Writes QueueNotify. */
	kick(): void {
		this.#write(VIRTIO_MMIO.QueueNotify, 0);
	}

	/** Puts a request on the queue without a kick. @returns its head and buffers */
	offer(buffers: readonly Piece[]): { head: number; parts: Part[] } {
		const parts = buffers.map((buffer): Part => {
			const length = typeof buffer === "number" ? buffer : buffer.length;
			const address = this.#free;
			this.#free += length + 16;
			if (typeof buffer !== "number") this.#bytes.set(buffer, address);
			else this.#bytes.fill(0xee, address, address + length);
			return { address, length, writable: typeof buffer === "number" };
		});
		if (this.#free > RAM_BYTES - 0x10000) this.#free = BUFFERS;
		const descriptors = parts.map(() => this.#descriptor++ % SIZE);
		return { head: this.#ring.chain(descriptors, parts), parts };
	}

	/** The requests that came back, by their heads. */
	collect(): Map<number, number> {
		return new Map(this.#ring.collect().map(({ id, written }) => [id, written]));
	}

	/** Sends one request and takes its answer; undefined when none comes at once. */
	request(buffers: readonly Piece[]): Answer | undefined {
		const { head, parts } = this.offer(buffers);
		this.kick();
		const written = this.collect().get(head);
		return written === undefined ? undefined : { written, data: this.dataOf(parts) };
	}

	/** What the writable buffers hold now, one after the other. */
	dataOf(parts: readonly Part[]): Uint8Array {
		const pieces = parts
			.filter(({ writable }) => writable)
			.map(({ address, length }) => this.#bytes.slice(address, address + length));
		return Buffer.concat(pieces);
	}
}
