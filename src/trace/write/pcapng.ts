/*
 * pcapng (draft-ietf-opsawg-pcapng), which Wireshark and tshark read: the frames of net devices as LINKTYPE_ETHERNET, the
 * packets of vsock devices as LINKTYPE_VSOCK, with the header that Linux' vsockmon gives (<linux/vsockmon.h>). Each device
 * is an interface; time stamps are in nanoseconds.
 */
import { struct } from "../../base/struct.ts";
import * as vsock from "../../virtio/vsock/packet.ts";
import type { TracePacket } from "../event.ts";
import type { TraceWriter } from "./writer.ts";

const SECTION_HEADER_BLOCK = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION_BLOCK = 1;
const ENHANCED_PACKET_BLOCK = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const LINKTYPE_ETHERNET = 1;
const LINKTYPE_VSOCK = 271;

const OPT_ENDOFOPT = 0;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_TSRESOL = 9;
const EPB_FLAGS = 2;
/* Directions in EPB_FLAGS. */
const INBOUND = 1;
const OUTBOUND = 2;
/** 10^-9 s. */
const NANOSECONDS = 9;

const af_vsockmon_hdr = struct("af_vsockmon_hdr", {
	src_cid: "u64",
	dst_cid: "u64",
	src_port: "u32",
	dst_port: "u32",
	op: "u16",
	transport: "u16",
	len: "u16",
	reserved: "u16",
});
const AF_VSOCK_OP_UNKNOWN = 0;
const AF_VSOCK_OP_CONNECT = 1;
const AF_VSOCK_OP_DISCONNECT = 2;
const AF_VSOCK_OP_CONTROL = 3;
const AF_VSOCK_OP_PAYLOAD = 4;
const AF_VSOCK_TRANSPORT_VIRTIO = 2;

/** As Linux maps them (virtio_transport_build_skb). */
const MONITOR_OPS = new Map([
	[vsock.VIRTIO_VSOCK_OP_REQUEST, AF_VSOCK_OP_CONNECT],
	[vsock.VIRTIO_VSOCK_OP_RESPONSE, AF_VSOCK_OP_CONNECT],
	[vsock.VIRTIO_VSOCK_OP_RST, AF_VSOCK_OP_DISCONNECT],
	[vsock.VIRTIO_VSOCK_OP_SHUTDOWN, AF_VSOCK_OP_DISCONNECT],
	[vsock.VIRTIO_VSOCK_OP_RW, AF_VSOCK_OP_PAYLOAD],
	[vsock.VIRTIO_VSOCK_OP_CREDIT_UPDATE, AF_VSOCK_OP_CONTROL],
	[vsock.VIRTIO_VSOCK_OP_CREDIT_REQUEST, AF_VSOCK_OP_CONTROL],
]);

export class PcapngWriter implements TraceWriter {
	readonly #interfaces = new Map<string, number>();
	#begun = false;

	packet(packet: TracePacket): Uint8Array {
		const { t, device, toGuest, link, bytes, zeroUnixMs } = packet;
		const blocks: Uint8Array[] = [];
		if (!this.#begun) blocks.push(sectionHeader());
		this.#begun = true;
		let at = this.#interfaces.get(device);
		if (at === undefined) {
			at = this.#interfaces.size;
			this.#interfaces.set(device, at);
			blocks.push(interfaceDescription(device, link === "vsock" ? LINKTYPE_VSOCK : LINKTYPE_ETHERNET));
		}
		const time = BigInt(Math.round(zeroUnixMs * 1e6)) + BigInt(t);
		const data = link === "vsock" ? monitored(bytes) : bytes;
		const head = Buffer.alloc(20);
		head.writeUInt32LE(at, 0);
		head.writeUInt32LE(Number(time >> 32n), 4);
		head.writeUInt32LE(Number(time & 0xffff_ffffn), 8);
		head.writeUInt32LE(data.length, 12);
		head.writeUInt32LE(data.length, 16);
		const flags = Buffer.alloc(4);
		flags.writeUInt32LE(toGuest ? INBOUND : OUTBOUND);
		blocks.push(block(ENHANCED_PACKET_BLOCK, head, padded(data), option(EPB_FLAGS, flags), option(OPT_ENDOFOPT)));
		return Buffer.concat(blocks);
	}

	/** A file without packets is one with a header. */
	end(): Uint8Array {
		return this.#begun ? new Uint8Array(0) : sectionHeader();
	}
}

function sectionHeader(): Buffer {
	const head = Buffer.alloc(16, 0xff); /* the section's length is unknown: -1 */
	head.writeUInt32LE(BYTE_ORDER_MAGIC, 0);
	head.writeUInt16LE(1, 4);
	head.writeUInt16LE(0, 6);
	return block(SECTION_HEADER_BLOCK, head, option(SHB_USERAPPL, Buffer.from("tsvmm")), option(OPT_ENDOFOPT));
}

function interfaceDescription(name: string, linkType: number): Buffer {
	const head = Buffer.alloc(8); /* no limit of the packets' length */
	head.writeUInt16LE(linkType, 0);
	const options = [option(IF_NAME, Buffer.from(name)), option(IF_TSRESOL, Buffer.of(NANOSECONDS))];
	return block(INTERFACE_DESCRIPTION_BLOCK, head, ...options, option(OPT_ENDOFOPT));
}

/** af_vsockmon_hdr, the packet's own header, and the payload. */
function monitored(bytes: Uint8Array): Uint8Array {
	const { virtio_vsock_hdr: hdr } = vsock;
	if (bytes.length < vsock.HEADER_BYTES) return bytes;
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
	const head = Buffer.alloc(af_vsockmon_hdr.sizeof);
	head.set(bytes.subarray(hdr.src_cid, hdr.src_cid + 8), af_vsockmon_hdr.src_cid);
	head.set(bytes.subarray(hdr.dst_cid, hdr.dst_cid + 8), af_vsockmon_hdr.dst_cid);
	head.writeUInt32LE(view.getUint32(hdr.src_port, true), af_vsockmon_hdr.src_port);
	head.writeUInt32LE(view.getUint32(hdr.dst_port, true), af_vsockmon_hdr.dst_port);
	const op = MONITOR_OPS.get(view.getUint16(hdr.op, true)) ?? AF_VSOCK_OP_UNKNOWN;
	head.writeUInt16LE(op, af_vsockmon_hdr.op);
	head.writeUInt16LE(AF_VSOCK_TRANSPORT_VIRTIO, af_vsockmon_hdr.transport);
	head.writeUInt16LE(vsock.HEADER_BYTES, af_vsockmon_hdr.len);
	return Buffer.concat([head, bytes]);
}

/** Type, length, body, and the length once more. */
function block(type: number, ...body: Uint8Array[]): Buffer {
	const length = 12 + body.reduce((sum, part) => sum + part.length, 0);
	const head = Buffer.alloc(8);
	head.writeUInt32LE(type, 0);
	head.writeUInt32LE(length, 4);
	const tail = Buffer.alloc(4);
	tail.writeUInt32LE(length);
	return Buffer.concat([head, ...body, tail]);
}

function option(code: number, value: Uint8Array = new Uint8Array(0)): Buffer {
	const head = Buffer.alloc(4);
	head.writeUInt16LE(code, 0);
	head.writeUInt16LE(value.length, 2);
	return Buffer.concat([head, padded(value)]);
}

/** With zeroes up to a multiple of 4 bytes. */
function padded(bytes: Uint8Array): Uint8Array {
	const missing = -bytes.length & 3;
	return missing === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(missing)]);
}
