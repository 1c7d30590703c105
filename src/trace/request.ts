/*
 * What a chain asks for, or answers: the decoded headers of each type of device. Numbers have the specification's names.
 */

/** A request of the block device (virtio 1.2 §5.2.6). */
export interface BlockTraceRequest {
	/** Which header it is. */
	readonly protocol: "blk";
	/** "VIRTIO_BLK_T_IN". */
	readonly type: string;
	/** The first one, of 512 bytes. */
	readonly sector: number;
	/** Bytes of data, without header and status. */
	readonly bytes: number;
}

/** The answer: "VIRTIO_BLK_S_OK". */
export interface BlockTraceAnswer {
	/** Which header it is. */
	readonly protocol: "blk";
	/** The status byte. */
	readonly status: string;
}

/** An Ethernet frame. */
export interface FrameTrace {
	/** Which header it is. */
	readonly protocol: "net";
	/** Of the frame, without virtio_net_hdr. */
	readonly bytes: number;
	/** MAC address. */
	readonly source: string;
	/** MAC address. */
	readonly destination: string;
	/** "IPv4", "ARP", or a number in hexadecimal. */
	readonly etherType: string;
	/** gso_type of virtio_net_hdr, when the frame is to be cut: "VIRTIO_NET_HDR_GSO_TCPV4". */
	readonly gso?: string;
	/** Buffers that it fills, when there are several. */
	readonly buffers?: number;
}

/** A vsock packet (virtio 1.2 §5.10.6). */
export interface VsockTrace {
	/** Which header it is. */
	readonly protocol: "vsock";
	/** "VIRTIO_VSOCK_OP_RW". */
	readonly op: string;
	/** Context ID; -1 when it has bits that are reserved. */
	readonly sourceCid: number;
	/** Port. */
	readonly sourcePort: number;
	/** As `sourceCid`. */
	readonly destinationCid: number;
	/** Port. */
	readonly destinationPort: number;
	/** Of the payload. */
	readonly bytes: number;
	/** As the protocol has them. */
	readonly flags: number;
	/** Size of the sender's receive buffer, in bytes. */
	readonly bufAlloc: number;
	/** Bytes that have left that buffer so far. */
	readonly fwdCnt: number;
}

/** A request of FUSE. */
export interface FuseTraceRequest {
	/** Which header it is. */
	readonly protocol: "fuse";
	/** "FUSE_LOOKUP". */
	readonly opcode: string;
	/** The node that it is about. */
	readonly nodeid: number;
	/** The request's number. */
	readonly unique: number;
	/** The name that a request begins with, such as that of a lookup. */
	readonly name?: string;
}

/** The answer: 0 or an errno. */
export interface FuseTraceAnswer {
	/** Which header it is. */
	readonly protocol: "fuse";
	/** The request's number. */
	readonly unique: number;
	/** 0 or a positive errno. */
	readonly error: number;
}

/** Bytes without a header: entropy, a console's text, pages of the balloon. */
export interface BytesTrace {
	/** Which header it is. */
	readonly protocol: "console" | "rng" | "balloon";
	/** How many. */
	readonly bytes: number;
}

/** A decoded header. `protocol` tells which; an answer has `status`, `error` or `bytes`. */
export type TraceRequest =
	| BlockTraceRequest
	| BlockTraceAnswer
	| FrameTrace
	| VsockTrace
	| FuseTraceRequest
	| FuseTraceAnswer
	| BytesTrace;
