/*
 * Finds the agent's frames (docs/agent.md) in the vsock packets between the guest and the host's agent port. It keeps a
 * header that is cut in two, and no payload. A stream whose bytes are no frames is not looked at any more.
 */
import { FRAME, HEADER_BYTES, PAYLOAD_MAX, VSOCK_AGENT_PORT } from "../agent/protocol.ts";
import type { Segments } from "../base/segments.ts";
import { HEADER_BYTES as PACKET_BYTES } from "../virtio/vsock/packet.ts";
import type { VsockTrace } from "./request.ts";

/** A frame, as an event has it. */
export interface AgentFrame {
	readonly toGuest: boolean;
	readonly frame: string;
	readonly session: number;
	readonly bytes: number;
	readonly flags: number;
}

const NAMES = new Map<number, string>(Object.entries(FRAME).map(([name, type]) => [type, name]));
const HOST_CID = 2;
/** Streams that are looked at; a guest may open many to the agent's port. */
const MAX_STREAMS = 16;

/** One direction of a stream. */
interface Stream {
	readonly header: Uint8Array;
	headerBytes: number;
	/** Of a payload, that are still to come. */
	skip: number;
	lost: boolean;
}

export class AgentWatch {
	readonly #found: (frame: AgentFrame) => void;
	readonly #streams = new Map<string, Stream>();

	constructor(found: (frame: AgentFrame) => void) {
		this.#found = found;
	}

	/** A packet that `bytes` hold from their beginning on. */
	packet(packet: VsockTrace, bytes: Segments): void {
		const toGuest = packet.sourceCid === HOST_CID;
		const hostPort = toGuest ? packet.sourcePort : packet.destinationPort;
		if (hostPort !== VSOCK_AGENT_PORT) return;
		const key = `${toGuest ? packet.destinationPort : packet.sourcePort} ${toGuest}`;
		if (packet.op === "VIRTIO_VSOCK_OP_RST" || packet.op === "VIRTIO_VSOCK_OP_REQUEST") this.#streams.delete(key);
		if (packet.op !== "VIRTIO_VSOCK_OP_RW") return;
		const stream = this.#streams.get(key) ?? this.#open(key);
		if (stream === undefined || stream.lost) return;
		const length = Math.min(packet.bytes, bytes.totalBytes - PACKET_BYTES);
		for (let at = 0; at < length && !stream.lost; ) at += this.#take(stream, toGuest, { bytes, at, length });
	}

	/** Takes what belongs together: a payload's bytes, or those of a header. How many bytes that were. */
	#take(stream: Stream, toGuest: boolean, from: { bytes: Segments; at: number; length: number }): number {
		const left = from.length - from.at;
		if (stream.skip > 0) {
			const skipped = Math.min(stream.skip, left);
			stream.skip -= skipped;
			return skipped;
		}
		const taken = Math.min(HEADER_BYTES - stream.headerBytes, left);
		const part = stream.header.subarray(stream.headerBytes, stream.headerBytes + taken);
		from.bytes.copyTo(part, PACKET_BYTES + from.at);
		stream.headerBytes += taken;
		if (stream.headerBytes === HEADER_BYTES) this.#header(stream, toGuest);
		return taken;
	}

	#header(stream: Stream, toGuest: boolean): void {
		const view = new DataView(stream.header.buffer);
		const bytes = view.getUint32(0, true);
		const frame = NAMES.get(view.getUint8(4));
		stream.headerBytes = 0;
		stream.skip = bytes;
		stream.lost = bytes > PAYLOAD_MAX || frame === undefined;
		if (frame === undefined || stream.lost) return;
		this.#found({ toGuest, frame, session: view.getUint32(8, true), bytes, flags: view.getUint8(5) });
	}

	#open(key: string): Stream | undefined {
		if (this.#streams.size >= MAX_STREAMS) return undefined;
		const stream = { header: new Uint8Array(HEADER_BYTES), headerBytes: 0, skip: 0, lost: false };
		this.#streams.set(key, stream);
		return stream;
	}
}
