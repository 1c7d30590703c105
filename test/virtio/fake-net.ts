/* A network for tests: frames to the guest are queued by hand, frames of the guest are kept. */
import type { GuestOffloads, NetBackend, NetEvents, NetOffloads } from "../../src/backends/contract.ts";
import type { Segments } from "../../src/base/segments.ts";

export const PLAIN: NetOffloads = { vnetHeader: false, csum: false, tso: false, guestCsum: false, guestTso: false };
export const FULL: NetOffloads = { vnetHeader: true, csum: true, tso: true, guestCsum: true, guestTso: true };

export class FakeNet implements NetBackend {
	readonly offloads: NetOffloads;
	readonly mtu?: number;
	readonly sent: Buffer[] = [];
	/** How many more frames `send` takes. */
	room = Number.POSITIVE_INFINITY;
	guestOffloads: GuestOffloads | undefined;
	closed = false;
	receives = 0;
	#queue: Buffer[] = [];
	#events: NetEvents | undefined;
	#starved = true;

	constructor(offloads: NetOffloads = PLAIN, mtu?: number) {
		this.offloads = offloads;
		if (mtu !== undefined) this.mtu = mtu;
	}

	start(events: NetEvents): void {
		this.#events = events;
	}
	setGuestOffloads(accepted: GuestOffloads): void {
		this.guestOffloads = accepted;
	}
	send(frame: Segments, header = new Uint8Array(0)): boolean {
		if (this.room === 0) return false;
		this.room--;
		const bytes = Buffer.alloc(frame.totalBytes);
		frame.copyTo(bytes);
		this.sent.push(Buffer.concat([header, bytes]));
		return true;
	}
	receive(into: Segments): number {
		this.receives++;
		const frame = this.#queue.shift();
		if (frame === undefined) {
			this.#starved = true;
			return 0;
		}
		return frame.length > into.totalBytes ? -1 : into.copyFrom(frame);
	}
	async close(): Promise<void> {
		this.closed = true;
	}

	/** Frames arrive for the guest; tells the device once, as the contract has it. */
	arrive(...frames: Uint8Array[]): void {
		this.#queue.push(...frames.map((f) => Buffer.from(f)));
		if (!this.#starved) return;
		this.#starved = false;
		this.#events!.readable();
	}
	get waiting(): number {
		return this.#queue.length;
	}
	/** The network is gone. */
	loseLink(): void {
		this.room = Number.POSITIVE_INFINITY;
		this.#events!.linkDown();
	}
	makeRoom(frames = Number.POSITIVE_INFINITY): void {
		this.room = frames;
		this.#events!.writable();
	}
}
