/*
 * Which port of a switch leads to which Ethernet address. An address is learnt from the frames that a port sends
 * (IEEE 802.1D §7.8), and forgotten when it has sent none for five minutes. A port that pretends to have many addresses
 * loses its own oldest one, and those of other ports stay.
 */
import type { SwitchPort } from "./ethernet-switch.ts";

/** 802.1D's recommended ageing time. */
const AGEING_MS = 300_000;
const MOST_OF_A_PORT = 64;

export class MacTable {
	/** The port of each address, as a 48-bit number. */
	readonly #learnt = new Map<number, SwitchPort>();
	/** When each address of a port was last seen, in ms, the longest ago first. */
	readonly #seen = new Map<SwitchPort, Map<number, number>>();
	/** Addresses that a port was given, and no other port can have. */
	readonly #fixed = new Map<number, SwitchPort>();
	readonly #now: () => number;

	/** @param now the time in ms */
	constructor(now: () => number = () => performance.now()) {
		this.#now = now;
	}

	/** How many addresses are learnt. */
	get size(): number {
		return this.#learnt.size;
	}

	/** Keeps `mac` for `port`. */
	fix(mac: number, port: SwitchPort): void {
		this.#forgetAddress(mac);
		this.#fixed.set(mac, port);
	}

	/** `port` has sent a frame from `mac`. False when the address is another port's for good. */
	learn(mac: number, port: SwitchPort): boolean {
		const owner = this.#fixed.get(mac);
		if (owner !== undefined) return owner === port;
		if (this.#learnt.get(mac) !== port) {
			this.#forgetAddress(mac);
			this.#makeRoom(port);
			this.#learnt.set(mac, port);
		}
		const seen = this.#seenOf(port);
		/* Anew, so that it comes last. */
		seen.delete(mac);
		seen.set(mac, this.#now());
		return true;
	}

	/** The port that leads to `mac`; undefined when none is known. */
	find(mac: number): SwitchPort | undefined {
		const port = this.#fixed.get(mac) ?? this.#learnt.get(mac);
		const seenMs = port === undefined ? undefined : this.#seen.get(port)?.get(mac);
		if (seenMs === undefined || this.#now() - seenMs < AGEING_MS) return port;
		this.#forgetAddress(mac);
		return undefined;
	}

	/** Forgets all addresses of a port. */
	forget(port: SwitchPort): void {
		for (const mac of this.#seenOf(port).keys()) this.#learnt.delete(mac);
		this.#seen.delete(port);
		for (const [mac, owner] of this.#fixed) if (owner === port) this.#fixed.delete(mac);
	}

	#seenOf(port: SwitchPort): Map<number, number> {
		let seen = this.#seen.get(port);
		if (seen === undefined) {
			seen = new Map();
			this.#seen.set(port, seen);
		}
		return seen;
	}

	#forgetAddress(mac: number): void {
		const port = this.#learnt.get(mac);
		if (port === undefined) return;
		this.#learnt.delete(mac);
		this.#seen.get(port)?.delete(mac);
	}

	#makeRoom(port: SwitchPort): void {
		const seen = this.#seenOf(port);
		for (const oldest of seen.keys()) {
			if (seen.size < MOST_OF_A_PORT) return;
			this.#forgetAddress(oldest);
		}
	}
}
