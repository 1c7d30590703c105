/*
 * virtio-net (virtio 1.2 §5.1.6): virtio_net_hdr, then an Ethernet frame.
 */
import type { Segments } from "../../base/segments.ts";
import * as constants from "../../virtio/net-header.ts";
import type { FrameTrace } from "../request.ts";
import { type Decoder, nameOf, namesOf } from "./decoder.ts";

const { HEADER_BYTES, VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_NONE, virtio_net_hdr } = constants;
const GSO_TYPES = namesOf(constants, "VIRTIO_NET_HDR_GSO_");
const ETHERNET_BYTES = 14;
const HEAD = new Uint8Array(HEADER_BYTES + ETHERNET_BYTES);
const VIEW = new DataView(HEAD.buffer);
const RX = 0;
const TX = 1;

const ETHER_TYPES = new Map([
	[0x0800, "IPv4"],
	[0x0806, "ARP"],
	[0x86dd, "IPv6"],
	[0x8100, "VLAN"],
]);

export const netDecoder: Decoder = {
	queueName: (queue) => ["receiveq1", "transmitq1"][queue],
	request: ({ queue, chain: { readable } }) => (queue === TX ? frameIn(readable, readable.totalBytes) : undefined),
	answer: ({ queue, chain: { writable }, written }) => (queue === RX ? frameIn(writable, written) : undefined),
};

function frameIn(from: Segments, length: number): FrameTrace | undefined {
	if (length < HEAD.length || from.copyTo(HEAD) < HEAD.length) return undefined;
	const gso = VIEW.getUint8(virtio_net_hdr.gso_type) & ~VIRTIO_NET_HDR_GSO_ECN;
	const buffers = VIEW.getUint16(virtio_net_hdr.num_buffers, true);
	const etherType = VIEW.getUint16(HEADER_BYTES + 12);
	return {
		protocol: "net",
		bytes: length - HEADER_BYTES,
		source: macAt(HEADER_BYTES + 6),
		destination: macAt(HEADER_BYTES),
		etherType: ETHER_TYPES.get(etherType) ?? `0x${etherType.toString(16).padStart(4, "0")}`,
		...(gso === VIRTIO_NET_HDR_GSO_NONE ? {} : { gso: nameOf(GSO_TYPES, gso, "VIRTIO_NET_HDR_GSO_") }),
		...(buffers > 1 ? { buffers } : {}),
	};
}

function macAt(at: number): string {
	return Array.from(HEAD.subarray(at, at + 6), (byte) => byte.toString(16).padStart(2, "0")).join(":");
}
