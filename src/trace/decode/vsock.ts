/*
 * virtio-vsock (virtio 1.2 §5.10.6): virtio_vsock_hdr, then the payload.
 */
import type { Segments } from "../../base/segments.ts";
import * as constants from "../../virtio/vsock/packet.ts";
import type { VsockTrace } from "../request.ts";
import { type Decoder, nameOf, namesOf } from "./decoder.ts";

const OPS = namesOf(constants, "VIRTIO_VSOCK_OP_");
const PACKET = new constants.Packet();
const RX = 0;
const TX = 1;

export const vsockDecoder: Decoder = {
	queueName: (queue) => ["rx", "tx", "event"][queue],
	request: ({ queue, chain: { readable } }) => (queue === TX ? packetIn(readable) : undefined),
	answer: ({ queue, chain: { writable }, written }) =>
		queue === RX && written >= constants.HEADER_BYTES ? packetIn(writable) : undefined,
};

/** The header of a packet; CIDs of 64 bits, which the specification forbids, become -1. */
function packetIn(from: Segments): VsockTrace | undefined {
	if (!PACKET.read(from)) return undefined;
	const cid = (value: number) => (Number.isNaN(value) ? -1 : value);
	return {
		protocol: "vsock",
		op: nameOf(OPS, PACKET.op, "VIRTIO_VSOCK_OP_"),
		sourceCid: cid(PACKET.srcCid),
		sourcePort: PACKET.srcPort,
		destinationCid: cid(PACKET.dstCid),
		destinationPort: PACKET.dstPort,
		bytes: PACKET.len,
		flags: PACKET.flags,
		bufAlloc: PACKET.bufAlloc,
		fwdCnt: PACKET.fwdCnt,
	};
}
