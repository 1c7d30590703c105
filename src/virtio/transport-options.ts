/*
 * What a transport is connected to.
 */
import type { Enter } from "../base/enter.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import type { Observers } from "../base/observer.ts";
import type { PollingThread } from "./poller.ts";

/** How long a vCPU waits for its reset: as long as a closed disk waits for its requests. */
export const RESET_MS = 30_000;

/** An interrupt line; raise is an edge. */
export interface InterruptLine {
	/** An edge. */
	raise(): void;
}

/** The connections of a transport. */
export interface TransportOptions {
	/** The guest's RAM. */
	readonly memory: GuestMemory;
	/** Interrupts the guest. */
	readonly line: InterruptLine;
	/** A word for this transport only. The native helper may share it. */
	readonly interruptStatus: Int32Array;
	/** The way into the machine that the device belongs to; direct when missing. */
	readonly enter?: Enter | undefined;
	/** The observers of driver and device; none when missing. */
	readonly observers?: Observers | undefined;
	/** For devices that are polled; none is when missing. */
	readonly thread?: PollingThread | undefined;
}
