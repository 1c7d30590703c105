/* A kind of device as a new file would add it: one field of MachineConfig, one device. */
import type { Activation, VirtioDevice } from "../../src/virtio/device.ts";
import type { DeviceKind } from "../../src/virtio/device-kind.ts";
import type { Virtqueue } from "../../src/virtio/queue.ts";

export const VIRTIO_ID_ECHO = 62; /* no device type of the specification has this number */

/** Gives each request back. */
class EchoDevice implements VirtioDevice {
	readonly name = "virtio-echo0";
	readonly deviceId = VIRTIO_ID_ECHO;
	readonly features = 0n;
	readonly queueSizes = [16];
	readonly config = new Uint8Array(0);
	#queue: Virtqueue | undefined;

	activate({ queues }: Activation): void {
		this.#queue = queues[0];
	}

	notify(): void {
		const queue = this.#queue;
		if (queue === undefined) return;
		for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
			const text = Buffer.alloc(Math.min(chain.readable.totalBytes, 4096));
			chain.readable.copyTo(text);
			queue.push(chain, chain.writable.copyFrom(text));
		}
		queue.flush();
	}

	reset(): void {
		this.#queue = undefined;
	}

	async close(): Promise<void> {
		this.reset();
	}
}

export interface EchoFields {
	/** A device that gives back what it is asked. */
	echo?: boolean | undefined;
}

export const echoKind: DeviceKind<EchoFields> = {
	plan: ({ echo = false }) => (echo ? [{ id: "echo", create: () => new EchoDevice() }] : []),
};
