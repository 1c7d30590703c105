/*
 * A vsock on which connections are refused or take their time, as rules say (base/faults.ts): those of the guest, and those
 * to it.
 */
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { DeviceFaults, FaultEvents } from "../base/faults.ts";
import type { VsockBackend, VsockGuest } from "./contract.ts";

/** What can go wrong at a vsock. */
export const VSOCK_FAULTS: FaultEvents = { connect: ["refuse", "delay"] };

/** A vsock with faults. It owns the real one. */
export class FaultyVsock implements VsockBackend {
	readonly #vsock: VsockBackend;
	readonly #faults: DeviceFaults;

	constructor(vsock: VsockBackend, faults: DeviceFaults) {
		this.#vsock = vsock;
		this.#faults = faults;
	}

	start(guest: VsockGuest): void {
		this.#vsock.start({
			connect: (port, stream, answer) => {
				const hit = this.#faults.meet("connect");
				if (hit === undefined) guest.connect(port, stream, answer);
				else if (hit.effect === "refuse") this.#faults.after(hit.delayMs, () => answer(undefined));
				else {
					/* The request may be withdrawn meanwhile. */
					const later = () => (stream.destroyed ? answer(undefined) : guest.connect(port, stream, answer));
					this.#faults.after(hit.delayMs, later);
				}
			},
		});
	}

	async open(port: number): Promise<Duplex | undefined> {
		const hit = this.#faults.meet("connect");
		if (hit === undefined) return await this.#vsock.open(port);
		if (hit.delayMs > 0) await sleep(hit.delayMs, undefined, { ref: false });
		return hit.effect === "refuse" ? undefined : await this.#vsock.open(port);
	}

	async close(): Promise<void> {
		this.#faults.close();
		await this.#vsock.close();
	}
}
