/*
 * The entropy device (virtio 1.2 §5.4): one queue of buffers, which it fills from the host's random number generator.
 * It is the smallest device: read it first.
 */
import { randomFillSync } from "node:crypto";
import { type SavedState, StateReader } from "../base/state.ts";
import type { Activation, VirtioDevice } from "./device.ts";
import type { DeviceKind } from "./device-kind.ts";
import type { Virtqueue } from "./queue.ts";

export const VIRTIO_ID_RNG = 4;

/** The most bytes for one request. The driver accepts fewer than it asked for (§5.4.6.2). */
const MAX_REQUEST_BYTES = 64 * 1024;

/** The entropy device (virtio 1.2 §5.4): fills each buffer from the host's random number generator. */
export class RngDevice implements VirtioDevice {
	readonly name: string;
	readonly deviceId = VIRTIO_ID_RNG;
	readonly features = 0n;
	readonly queueSizes = [64];
	readonly config = new Uint8Array(0);
	#queue: Virtqueue | undefined;

	/** @param name for logs and traces */
	constructor(name = "virtio-rng0") {
		this.name = name;
	}

	activate({ queues }: Activation): void {
		this.#queue = queues[0];
	}

	notify(): void {
		const queue = this.#queue;
		if (queue === undefined) return;
		for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
			let written = 0;
			for (let i = 0; i < chain.writable.count && written < MAX_REQUEST_BYTES; i++) {
				const bytes = chain.writable.bytes(i).subarray(0, MAX_REQUEST_BYTES - written);
				randomFillSync(bytes);
				written += bytes.length;
			}
			queue.push(chain, written);
		}
		queue.flush();
	}

	reset(): void {
		this.#queue = undefined;
	}

	save(): SavedState {
		return { version: 1 };
	}

	restore(state: unknown, activation: Activation | undefined): void {
		new StateReader(this.name, state).version(1);
		if (activation !== undefined) this.activate(activation);
	}

	async close(): Promise<void> {
		this.reset();
	}
}

/** The field of MachineConfig. */
export interface RngFields {
	/** An entropy device (virtio-rng); false when missing. */
	rng?: boolean | undefined;
}

export const rngKind: DeviceKind<RngFields> = {
	plan: ({ rng = false }) => (rng ? [{ id: "rng", create: () => new RngDevice() }] : []),
};
