/*
 * The driver for tests of a user's device, exported by tsvmm/virtio (docs/device-experiments.md):
 *
 *     const driver = TestDriver.start(new Reverser());
 *     const { data } = await driver.request(["desserts", 8]);       a text that the device reads, 8 bytes that it writes
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { VirtioDevice } from "../virtio/device.ts";
import { DEVICE_NEEDS_RESET, VIRTIO_MMIO } from "../virtio/spec.ts";
import { type Answer, MmioDriver, type Piece } from "./mmio-driver.ts";

/** How long a device may take for an answer. */
const LATE_MS = 2000;

/** Drives a device without a guest, for its tests. */
export class TestDriver {
	readonly #device: VirtioDevice;
	readonly #driver: MmioDriver;
	/** By queue and head, answers that nobody has taken. */
	readonly #answers = new Map<string, number>();

	private constructor(device: VirtioDevice) {
		this.#device = device;
		this.#driver = new MmioDriver(device);
	}

	/**
	 * Starts a device with all its queues and features, as Linux does. A queue has at most 64 descriptors.
	 *
	 * @throws Error when the device refuses
	 */
	static start(device: VirtioDevice): TestDriver {
		const made = new TestDriver(device);
		made.#begin();
		return made;
	}

	#begin(): void {
		const fault = this.#driver.start();
		if (fault !== undefined) throw new Error(`the driver cannot start the device: ${fault}`);
	}

	/** How often the device has raised an interrupt. */
	get interrupts(): number {
		return this.#driver.interrupts;
	}

	/**
	 * Makes a request, and waits for its answer. A text or bytes are a buffer that the device reads; a number is the length
	 * of one that it writes.
	 *
	 * @throws Error when there is no answer within two seconds, or the device needs a reset
	 */
	async request(buffers: readonly (string | Piece)[], queue = 0): Promise<Answer> {
		const pieces = buffers.map((buffer) => (typeof buffer === "string" ? Buffer.from(buffer) : buffer));
		const { head, parts } = this.#driver.offer(pieces, queue);
		this.#driver.kick(queue);
		const key = `${queue} ${head}`;
		for (const end = performance.now() + LATE_MS; ; await sleep(1)) {
			for (const [used, written] of this.#driver.collect(queue)) this.#answers.set(`${queue} ${used}`, written);
			const written = this.#answers.get(key);
			if (written !== undefined) {
				this.#answers.delete(key);
				return { written, data: this.#driver.dataOf(parts) };
			}
			if ((this.#driver.read(VIRTIO_MMIO.Status) & DEVICE_NEEDS_RESET) !== 0) {
				throw new Error("the device needs a reset (DEVICE_NEEDS_RESET): it found a fault in the queue");
			}
			if (performance.now() > end) {
				throw new Error(
					`the request at queue ${queue} was not answered within ${LATE_MS / 1000} seconds: push, then flush`,
				);
			}
		}
	}

	/** Bytes of the device's configuration. */
	config(offset: number, length: number): Uint8Array {
		return this.#driver.config(offset, length);
	}

	/** Resets the device and starts it anew. What was in flight is forgotten. */
	async restart(): Promise<void> {
		await this.#driver.reset();
		this.#answers.clear();
		this.#begin();
	}

	/** Closes the device. */
	async close(): Promise<void> {
		await this.#device.close();
	}
}
