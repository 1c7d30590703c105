/*
 * The header in front of every vsock packet (virtio 1.2 §5.10.6), little endian, 44 bytes, and its constants as the
 * spec spells them. A header is read out of guest memory once, into a packet that belongs to us.
 */
import type { Segments } from "../../base/segments.ts";
import { struct } from "../../base/struct.ts";

/** virtio 1.2 §5.10.4. */
export const virtio_vsock_config = struct("virtio_vsock_config", { guest_cid: "u64" }, true);

export const virtio_vsock_hdr = struct(
	"virtio_vsock_hdr",
	{
		src_cid: "u64",
		dst_cid: "u64",
		src_port: "u32",
		dst_port: "u32",
		len: "u32",
		type: "u16",
		op: "u16",
		flags: "u32",
		buf_alloc: "u32",
		fwd_cnt: "u32",
	},
	true,
);
export const HEADER_BYTES = virtio_vsock_hdr.sizeof;
/** Largest payload of one packet: what Linux accepts and sends. */
export const PAYLOAD_BYTES = 64 * 1024;

export const VIRTIO_VSOCK_TYPE_STREAM = 1;

export const VIRTIO_VSOCK_OP_REQUEST = 1;
export const VIRTIO_VSOCK_OP_RESPONSE = 2;
export const VIRTIO_VSOCK_OP_RST = 3;
export const VIRTIO_VSOCK_OP_SHUTDOWN = 4;
export const VIRTIO_VSOCK_OP_RW = 5;
export const VIRTIO_VSOCK_OP_CREDIT_UPDATE = 6;
export const VIRTIO_VSOCK_OP_CREDIT_REQUEST = 7;

/** Flags of OP_SHUTDOWN: the sender will not receive, will not send any more. */
export const VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE = 1;
export const VIRTIO_VSOCK_SHUTDOWN_F_SEND = 2;
export const SHUTDOWN_BOTH = VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE | VIRTIO_VSOCK_SHUTDOWN_F_SEND;

/** Context IDs (virtio 1.2 §5.10.4): 2 is the host, guests start at 3. */
export const VMADDR_CID_HOST = 2;

/** One header, reused for every packet of its direction. */
export class Packet {
	readonly bytes = new Uint8Array(HEADER_BYTES);
	readonly #view = new DataView(this.bytes.buffer);

	/** Copies the header out of a chain; false when the chain is too short. */
	read(from: Segments): boolean {
		return from.copyTo(this.bytes) === HEADER_BYTES;
	}

	/** A context ID; NaN, which equals no CID, when one of the reserved upper 32 bits is set (§5.10.4). */
	get srcCid(): number {
		return this.#cid(virtio_vsock_hdr.src_cid);
	}
	get dstCid(): number {
		return this.#cid(virtio_vsock_hdr.dst_cid);
	}
	get srcPort(): number {
		return this.#view.getUint32(virtio_vsock_hdr.src_port, true);
	}
	get dstPort(): number {
		return this.#view.getUint32(virtio_vsock_hdr.dst_port, true);
	}
	get len(): number {
		return this.#view.getUint32(virtio_vsock_hdr.len, true);
	}
	get type(): number {
		return this.#view.getUint16(virtio_vsock_hdr.type, true);
	}
	get op(): number {
		return this.#view.getUint16(virtio_vsock_hdr.op, true);
	}
	get flags(): number {
		return this.#view.getUint32(virtio_vsock_hdr.flags, true);
	}
	get bufAlloc(): number {
		return this.#view.getUint32(virtio_vsock_hdr.buf_alloc, true);
	}
	get fwdCnt(): number {
		return this.#view.getUint32(virtio_vsock_hdr.fwd_cnt, true);
	}

	/** Sets source and destination; type is always STREAM. */
	address(srcCid: number, srcPort: number, dstCid: number, dstPort: number): void {
		const view = this.#view;
		view.setUint32(virtio_vsock_hdr.src_cid, srcCid, true);
		view.setUint32(virtio_vsock_hdr.src_cid + 4, 0, true);
		view.setUint32(virtio_vsock_hdr.dst_cid, dstCid, true);
		view.setUint32(virtio_vsock_hdr.dst_cid + 4, 0, true);
		view.setUint32(virtio_vsock_hdr.src_port, srcPort, true);
		view.setUint32(virtio_vsock_hdr.dst_port, dstPort, true);
		view.setUint16(virtio_vsock_hdr.type, VIRTIO_VSOCK_TYPE_STREAM, true);
	}

	/** Sets operation, flags and payload length. */
	setOp(op: number, flags: number, len: number): void {
		this.#view.setUint16(virtio_vsock_hdr.op, op, true);
		this.#view.setUint32(virtio_vsock_hdr.flags, flags, true);
		this.#view.setUint32(virtio_vsock_hdr.len, len, true);
	}

	/** Sets the size of our receive buffer, and how many bytes have left it so far. */
	credit(bufAlloc: number, fwdCnt: number): void {
		this.#view.setUint32(virtio_vsock_hdr.buf_alloc, bufAlloc, true);
		this.#view.setUint32(virtio_vsock_hdr.fwd_cnt, fwdCnt, true);
	}

	#cid(at: number): number {
		return this.#view.getUint32(at + 4, true) === 0 ? this.#view.getUint32(at, true) : Number.NaN;
	}
}
