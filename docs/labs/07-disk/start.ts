/*
 * Lab 7: a block device. A virtio-blk device (virtio 1.2 §5.2) on an array of bytes. Check it with
 *
 *     tsvmm learn check 7
 */
import type { Activation, Chain, VirtioDevice, Virtqueue } from "tsvmm/virtio";

export class Disk implements VirtioDevice {
	readonly name = "disk";
	readonly deviceId = 0; /* 1. Which device is it? */
	readonly features = 0n;
	readonly queueSizes = [128];
	readonly config = new Uint8Array(8); /* 1. How large is it? */
	readonly #bytes: Uint8Array;
	#queue: Virtqueue | undefined;

	/** @param bytes the disk, whole sectors of 512 bytes */
	constructor(bytes: Uint8Array) {
		this.#bytes = bytes;
	}

	/** The driver has set up its queue. */
	activate({ queues }: Activation): void {
		this.#queue = queues[0];
	}

	/** The driver has put requests on the queue. */
	notify(): void {
		const queue = this.#queue;
		const chain = queue?.pop();
		if (chain !== undefined) queue?.push(chain, this.#serve(chain));
		/* 2. Is there only one? And who tells the driver? */
	}

	reset(): void {
		this.#queue = undefined;
	}

	async close(): Promise<void> {
		this.reset();
	}

	/** One request. @returns how many bytes it has written to the guest */
	#serve({ readable, writable }: Chain): number {
		/* 3. Read the header and the data. 4. Write the data and the status. 5. What if it makes no sense? */
		console.log(
			`${readable.totalBytes} bytes from the driver, room for ${writable.totalBytes}, ${this.#bytes.length} here`,
		);
		return 0;
	}
}
