/*
 * Ethernet addresses (IEEE 802 MAC addresses): their type and the check of an interface's address.
 */
import { createHash } from "node:crypto";
import { UsageError } from "./errors.ts";

const BYTES = 6;
/** Bits of the first byte. */
const MULTICAST = 1;
const LOCALLY_ADMINISTERED = 2;

/** The address of one interface: unicast, and not all zeroes. */
export class MacAddress {
	/** Six bytes in the order in which they are sent. */
	readonly bytes: Uint8Array;

	private constructor(bytes: Uint8Array) {
		this.bytes = bytes;
	}

	/**
	 * Reads "52:54:00:12:34:56", in upper or lower case.
	 *
	 * @throws UsageError ERR_CONFIG_NET
	 */
	static parse(text: string): MacAddress {
		if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
			throw refused(text, "six hexadecimal bytes with colons are wanted");
		}
		const bytes = Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
		if ((bytes[0]! & MULTICAST) !== 0) throw refused(text, "it is a multicast address");
		if (bytes.every((byte) => byte === 0)) throw refused(text, "it is no address of an interface");
		return new MacAddress(bytes);
	}

	/** A locally administered address that is always the same for `seed`, such as the name of a tap. */
	static derive(seed: string): MacAddress {
		const bytes = new Uint8Array(createHash("sha256").update(seed).digest().subarray(0, BYTES));
		bytes[0] = (bytes[0]! & ~MULTICAST) | LOCALLY_ADMINISTERED;
		return new MacAddress(bytes);
	}

	/** "52:54:00:12:34:56" */
	toString(): string {
		return Array.from(this.bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
	}
}

function refused(text: string, why: string): UsageError {
	return new UsageError("ERR_CONFIG_NET", `Cannot use MAC address ${JSON.stringify(text)}: ${why}`);
}
