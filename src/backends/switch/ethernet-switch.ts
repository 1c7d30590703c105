/*
 * An Ethernet switch (IEEE 802.1D without spanning trees): a frame that comes in at one port goes out at the port that
 * leads to its destination, or at all others when that is not known, or is a group of stations.
 *
 *     port.send <-- switch.receive(frame, from) --> port.send
 *
 * A port takes a frame or drops it. It never waits, so that a member that reads slowly delays nobody.
 */
import { logRateLimited } from "../../base/log.ts";
import { MAX_FRAME_BYTES, MIN_FRAME_BYTES } from "../frame-stream.ts";
import { MacTable } from "./mac-table.ts";

/** The lowest bit of the first byte of an address: a group of stations, or all. */
const GROUP = 1;
const MAC_BYTES = 6;

/** What is connected to a switch. */
export interface SwitchPort {
	/** Takes a frame, or drops it. The bytes are valid during the call only. */
	send(frame: Buffer): void;
}

export class EthernetSwitch {
	readonly #ports = new Set<SwitchPort>();
	readonly #table: MacTable;

	constructor(table = new MacTable()) {
		this.#table = table;
	}

	/**
	 * Connects a port.
	 *
	 * @param mac an address that only this port may have
	 */
	add(port: SwitchPort, mac?: Uint8Array): void {
		this.#ports.add(port);
		if (mac !== undefined) this.#table.fix(Buffer.from(mac).readUIntBE(0, MAC_BYTES), port);
	}

	/** Disconnects a port. */
	remove(port: SwitchPort): void {
		this.#ports.delete(port);
		this.#table.forget(port);
	}

	/** A frame has come in at a port. One that no station could have sent is dropped. */
	receive(frame: Buffer, from: SwitchPort): void {
		if (frame.length < MIN_FRAME_BYTES || frame.length > MAX_FRAME_BYTES || !this.#ports.has(from)) return;
		const source = frame.readUIntBE(MAC_BYTES, MAC_BYTES);
		if ((frame[MAC_BYTES]! & GROUP) !== 0 || source === 0) return;
		if (!this.#table.learn(source, from)) {
			logRateLimited("switch", "warn", "a member has sent from another one's Ethernet address: its frame is dropped");
			return;
		}
		const isGroup = (frame[0]! & GROUP) !== 0;
		const to = isGroup ? undefined : this.#table.find(frame.readUIntBE(0, MAC_BYTES));
		if (to !== undefined) {
			if (to !== from) to.send(frame);
			return;
		}
		for (const port of this.#ports) if (port !== from) port.send(frame);
	}
}
