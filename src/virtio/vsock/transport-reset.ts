/*
 * The event that tells a guest that all its streams are gone (virtio 1.2 §5.10.6.7). After a restore the guest has streams
 * of the machine that was saved, and their other ends are not there. The guest reads its context ID again, too.
 */
import { struct } from "../../base/struct.ts";
import type { Virtqueue } from "../queue.ts";

/** virtio 1.2 §5.10.6.7: what the device puts into the event queue. */
export const virtio_vsock_event = struct("virtio_vsock_event", { id: "u32" }, true);
/** The event that all streams are gone. */
export const VIRTIO_VSOCK_EVENT_TRANSPORT_RESET = 0;

const EVENT = new Uint8Array(virtio_vsock_event.sizeof);
new DataView(EVENT.buffer).setUint32(virtio_vsock_event.id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, true);
/** How long a guest may take to read it, also on a host that is busy. */
const UNREAD_MS = 20_000;

export class TransportReset {
	/** The guest has old streams and does not know yet that they are gone. */
	#due = false;
	/** When it was told so, in ms, until it has read that. */
	#toldMs: number | undefined;

	/** The guest has to be told. */
	require(): void {
		this.#due = true;
	}

	/** Another driver begins, which has no streams. */
	forget(): void {
		this.#due = false;
		this.#toldMs = undefined;
	}

	/** Tells it, if it has given a buffer. */
	announce(queue: Virtqueue): void {
		if (!this.#due) return;
		while (this.#due) {
			const chain = queue.pop();
			if (chain === undefined) break;
			const fits = chain.writable.totalBytes >= EVENT.length;
			if (fits) chain.writable.copyFrom(EVENT);
			this.#due = !fits;
			if (fits) this.#toldMs = performance.now();
			queue.push(chain, fits ? EVENT.length : 0);
		}
		queue.flush();
	}

	/**
	 * The guest has not read it yet: when it does, it will end new streams, too. A driver that never tells what it has read
	 * gets new streams after a while.
	 */
	isUnread(queue: Virtqueue | undefined): boolean {
		const toldMs = this.#toldMs;
		if (toldMs === undefined) return false;
		if (queue?.isSeen !== false || performance.now() - toldMs > UNREAD_MS) this.#toldMs = undefined;
		return this.#toldMs !== undefined;
	}
}
