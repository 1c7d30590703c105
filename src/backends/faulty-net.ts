/*
 * A network on which frames are lost, come twice, are late or have a wrong bit, as rules say (base/faults.ts). It stands
 * between a network device and its real network. "tx" are the guest's frames, "rx" those to the guest. A frame to the guest
 * that is late is kept here, and frames behind it may overtake it.
 */
import type { DeviceFaults, FaultEvents, Hit } from "../base/faults.ts";
import type { Segments } from "../base/segments.ts";
import type { GuestOffloads, NetBackend, NetEvents, NetOffloads } from "./contract.ts";
import { flipBit } from "./faulty-disk.ts";

/** What can go wrong on a network. */
export const NET_FAULTS: FaultEvents = {
	rx: ["drop", "corrupt", "duplicate", "delay"],
	tx: ["drop", "corrupt", "duplicate"],
};

/** The header in front of a frame where the network has one. No fault changes it. */
const VNET_HEADER_BYTES = 12;
/** Late frames at once. With more of them the network is not read. */
const MOST_LATE_FRAMES = 1024;

/** A network with faults. It owns the real one. */
export class FaultyNet implements NetBackend {
	readonly offloads: NetOffloads;
	readonly mtu?: number;
	readonly #net: NetBackend;
	readonly #faults: DeviceFaults;
	#events: NetEvents | undefined;
	/** What the frame meets that the network had no room for. */
	#refused: { readonly hit: Hit | undefined } | undefined;
	/** Frames to the guest whose time has come. */
	readonly #ready: Buffer[] = [];
	#late = 0;
	/** `receive` has returned 0, so the device waits for `readable`. */
	#starved = true;

	constructor(net: NetBackend, faults: DeviceFaults) {
		this.#net = net;
		this.#faults = faults;
		this.offloads = net.offloads;
		if (net.mtu !== undefined) this.mtu = net.mtu;
	}

	start(events: NetEvents): void {
		this.#events = events;
		this.#net.start({ ...events, readable: () => this.#readable() });
	}

	setGuestOffloads(accepted: GuestOffloads): void {
		this.#net.setGuestOffloads(accepted);
	}

	send(frame: Segments, header?: Uint8Array): boolean {
		const { hit } = this.#refused ?? { hit: this.#faults.meet("tx") };
		this.#refused = undefined;
		if (hit?.effect === "drop") return true;
		/* The bit is wrong only while the network looks: the frame is the guest's own memory. */
		if (hit?.effect === "corrupt") flipBit(frame, hit.random);
		const sent = this.#net.send(frame, header);
		if (hit?.effect === "corrupt") flipBit(frame, hit.random);
		if (!sent) this.#refused = { hit };
		else if (hit?.effect === "duplicate") this.#net.send(frame, header);
		return sent;
	}

	receive(into: Segments): number {
		this.#starved = false;
		const ready = this.#ready.shift();
		if (ready !== undefined) return ready.length > into.totalBytes ? -1 : into.copyFrom(ready);
		const length = this.#late < MOST_LATE_FRAMES ? this.#net.receive(into) : 0;
		if (length === 0) this.#starved = true;
		return length <= 0 ? length : this.#received(into, length);
	}

	async close(): Promise<void> {
		this.#faults.close();
		await this.#net.close();
	}

	#received(into: Segments, length: number): number {
		const hit = this.#faults.meet("rx");
		if (hit === undefined) return length;
		if (hit.effect === "drop") return -1;
		if (hit.effect === "corrupt") {
			flipBit(into, hit.random, this.offloads.vnetHeader ? VNET_HEADER_BYTES : 0, length);
		}
		const copy = () => {
			const frame = Buffer.alloc(length);
			into.copyTo(frame);
			return frame;
		};
		if (hit.effect === "duplicate") this.#ready.push(copy());
		if (hit.delayMs === 0) return length;
		const frame = copy();
		this.#late++;
		this.#faults.after(hit.delayMs, () => {
			this.#late--;
			this.#ready.push(frame);
			this.#readable();
		});
		return -1;
	}

	#readable(): void {
		if (!this.#starved) return;
		this.#starved = false;
		this.#events?.readable();
	}
}
