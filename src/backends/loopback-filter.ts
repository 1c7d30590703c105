/*
 * Keeps the guest away from the host's loopback, because services there trust every client. passt connects to the
 * address in a frame. Without --no-map-gw the gateway's address leads to 127.0.0.1. Older versions (Debian 12 has one)
 * also accept 127.0.0.1 and 0.0.0.0 in a hand-made frame.
 *
 *     frame of the guest -> admits -> passt        127/8 and 0/8: never (RFC 1122 §3.2.1.3)
 *     frame for the guest <- saw <- passt          the gateway: only what answers a client on the loopback
 *
 * A client on the loopback may use a published UDP port. Older versions send the guest's answers to it by the gateway's
 * address, so passt runs without --no-map-gw when a UDP port is published.
 */
import type { PortForward } from "./passt-ports.ts";

const ETHERTYPE_AT = 12;
const ETHERTYPE_IPV4 = 0x0800;
/** Offsets into a frame whose IPv4 header follows the Ethernet header. */
const IP_AT = 14;
const FRAGMENT_AT = IP_AT + 6;
const PROTOCOL_AT = IP_AT + 9;
const SOURCE_AT = IP_AT + 12;
const DESTINATION_AT = IP_AT + 16;
const MIN_IP_BYTES = 20;
const TCP = 6;
const UDP = 17;
const UDP_BYTES = 8;
const TCP_FLAGS_AT = 13;
const SYN = 0x02;
const ACK = 0x10;
/** All but the bits "do not fragment" and reserved: a fragment has one of them. */
const FRAGMENT = 0x3fff;
const PORTS = 65_536;

export class LoopbackFilter {
	/** True when passt has to run without --no-map-gw. */
	readonly mapGateway: boolean;
	readonly #gateway: number;
	/** By published UDP port of the guest: the ports on the loopback that have sent something to it, one bit each. */
	readonly #clients = new Map<number, Uint8Array>();
	/** True when the guest may use the gateway's address without limits. */
	readonly #open: boolean;

	/**
	 * @param gateway the gateway's IPv4 address, as in "10.0.2.2"
	 * @param ports that lead to the guest
	 * @param hostLoopback the gateway's address shall lead to the host's loopback
	 */
	constructor(gateway: string, ports: readonly PortForward[], hostLoopback: boolean) {
		this.#gateway = Buffer.from(gateway.split(".").map(Number)).readUInt32BE(0);
		this.#open = hostLoopback;
		for (const { protocol, guestPort } of ports) {
			if (protocol === "udp") this.#clients.set(guestPort, new Uint8Array(PORTS / 8));
		}
		this.mapGateway = hostLoopback || this.#clients.size > 0;
	}

	/** Whether passt may have the guest's frame, `length` bytes of `bytes` from `at`. */
	admits(bytes: Buffer, at: number, length: number): boolean {
		/* Of other frames passt answers ARP. With -4 it ignores the rest. */
		if (length < IP_AT + MIN_IP_BYTES || bytes.readUInt16BE(at + ETHERTYPE_AT) !== ETHERTYPE_IPV4) return true;
		const network = bytes[at + DESTINATION_AT];
		if (network === 127 || network === 0 || bytes[at + SOURCE_AT] === 127) return false;
		if (this.#open || bytes.readUInt32BE(at + DESTINATION_AT) !== this.#gateway) return true;
		return this.#answers(bytes, at, length);
	}

	/** Notes a frame for the guest, so that a client on the loopback may be answered. */
	saw(frame: Buffer): void {
		if (this.#open || frame.length < IP_AT + MIN_IP_BYTES + 4) return;
		if (frame.readUInt16BE(ETHERTYPE_AT) !== ETHERTYPE_IPV4 || frame[PROTOCOL_AT] !== UDP) return;
		if (frame.readUInt32BE(SOURCE_AT) !== this.#gateway) return;
		/* passt sends no options. */
		const port = frame.readUInt16BE(IP_AT + MIN_IP_BYTES);
		const clients = this.#clients.get(frame.readUInt16BE(IP_AT + MIN_IP_BYTES + 2));
		if (clients !== undefined) clients[port >> 3]! |= 1 << (port & 7);
	}

	/** True when a frame for the gateway answers a client on the loopback. */
	#answers(bytes: Buffer, at: number, length: number): boolean {
		const headerBytes = (bytes[at + IP_AT]! & 0x0f) * 4;
		const payloadBytes = length - IP_AT - headerBytes;
		if (headerBytes < MIN_IP_BYTES || payloadBytes < UDP_BYTES) return false;
		if ((bytes.readUInt16BE(at + FRAGMENT_AT) & FRAGMENT) !== 0) return false;
		const payloadAt = at + IP_AT + headerBytes;
		const protocol = bytes[at + PROTOCOL_AT];
		if (protocol === TCP) {
			return payloadBytes > TCP_FLAGS_AT && (bytes[payloadAt + TCP_FLAGS_AT]! & (SYN | ACK)) !== SYN;
		}
		if (protocol !== UDP) return true;
		const clients = this.#clients.get(bytes.readUInt16BE(payloadAt));
		const port = bytes.readUInt16BE(payloadAt + 2);
		return clients !== undefined && (clients[port >> 3]! & (1 << (port & 7))) !== 0;
	}
}
