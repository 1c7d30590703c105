/*
 * A network between guests with a way out. Each guest has a way out of its own, such as a passt process, and all ways
 * have the same gateway address. So the network needs no router and no address translation between the guests:
 *
 *                           ,-- for the gateway --> uplink (passt) --> sockets of the host
 *     NetDevice -> UplinkNet
 *                           '-- all other frames -> network (a switch) --> other guests
 */
import { MacAddress } from "../base/mac.ts";
import type { Segments } from "../base/segments.ts";
import type { NetBackend, NetEvents, NetOffloads } from "./contract.ts";

const ARP_BYTES = 42;
const ETHERTYPE_AT = 12;
const ETHERTYPE_ARP = 0x0806;
/** Target protocol address of an ARP packet (RFC 826), in a frame. */
const TARGET_AT = 38;

/** The gateway that the uplink stands for. */
export interface Gateway {
	/** IPv4, "10.0.2.2". */
	address: string;
	/** "52:55:0a:00:02:02" */
	mac: string;
}

export class UplinkNet implements NetBackend {
	readonly offloads: NetOffloads = { vnetHeader: false, csum: false, tso: false, guestCsum: false, guestTso: false };
	readonly mtu: number;
	readonly #network: NetBackend;
	readonly #uplink: NetBackend;
	readonly #gatewayMac: Buffer;
	readonly #gatewayAddress: Buffer;
	readonly #head = Buffer.alloc(ARP_BYTES);

	/** @param network and `uplink` are this backend's from now on; both carry plain frames */
	constructor(network: NetBackend, uplink: NetBackend, { address, mac }: Gateway) {
		this.#network = network;
		this.#uplink = uplink;
		this.mtu = Math.min(network.mtu ?? 1500, uplink.mtu ?? 1500);
		this.#gatewayMac = Buffer.from(MacAddress.parse(mac).bytes);
		this.#gatewayAddress = Buffer.from(address.split(".").map(Number));
	}

	start({ readable, writable, linkDown }: NetEvents): void {
		this.#network.start({ readable, writable, linkDown });
		/* Without a way out the guests still reach each other. */
		this.#uplink.start({ readable, writable, linkDown: () => undefined });
	}

	setGuestOffloads(): void {
		/* None are offered. */
	}

	send(frame: Segments): boolean {
		return (this.#isForGateway(frame) ? this.#uplink : this.#network).send(frame);
	}

	receive(into: Segments): number {
		return this.#network.receive(into) || this.#uplink.receive(into);
	}

	async close(): Promise<void> {
		await Promise.all([this.#network.close(), this.#uplink.close()]);
	}

	/** A frame to the gateway's Ethernet address, or an ARP request for it. */
	#isForGateway(frame: Segments): boolean {
		const head = this.#head;
		const length = frame.copyTo(head);
		if (head.subarray(0, 6).equals(this.#gatewayMac)) return true;
		if (length < ARP_BYTES || head.readUInt16BE(ETHERTYPE_AT) !== ETHERTYPE_ARP) return false;
		return head.subarray(TARGET_AT, TARGET_AT + 4).equals(this.#gatewayAddress);
	}
}
