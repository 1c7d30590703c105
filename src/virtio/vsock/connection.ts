/*
 * One stream between the guest and a Duplex of the host (virtio 1.2 §5.10.6). It is between the device, which brings
 * and fetches packets, and the stream, whose buffer gives the backpressure:
 *
 *     guest --RW--> received() --> chunks --> stream.write ... callback: fwd_cnt grows, the guest gets credit back
 *     guest <--RW-- fill() <-- chunks <-- stream "data" ... paused while the guest has no credit
 *
 * With a DirectStream the bytes need no chunks: received() joins the payloads of packets that follow each other,
 * writeJoined() writes them to the host's socket, and readSeveral() reads from it, all in guest RAM. Only bytes that the
 * socket has no room for are copied.
 *
 * Memory is bounded in both directions. Bytes of the guest take at most `bufAlloc` and room for two chunks, also when
 * its packets are small: only one write is in progress, and payloads that arrive meanwhile are joined. Bytes of the
 * host take at most QUEUE_BYTES and one chunk.
 */
import type { Duplex } from "node:stream";
import type { DirectStream } from "../../backends/contract.ts";
import { ignore } from "../../base/errors.ts";
import { Segments } from "../../base/segments.ts";
import {
	HEADER_BYTES,
	PAYLOAD_BYTES,
	type Packet,
	SHUTDOWN_BOTH,
	VIRTIO_VSOCK_OP_CREDIT_REQUEST,
	VIRTIO_VSOCK_OP_CREDIT_UPDATE,
	VIRTIO_VSOCK_OP_REQUEST,
	VIRTIO_VSOCK_OP_RESPONSE,
	VIRTIO_VSOCK_OP_RW,
	VIRTIO_VSOCK_OP_SHUTDOWN,
	VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE,
	VIRTIO_VSOCK_SHUTDOWN_F_SEND,
} from "./packet.ts";

/** Bytes of the host that wait for the guest, per stream, before the stream is paused. */
const QUEUE_BYTES = 128 * 1024;
/** Room for small packets that come while the stream is busy. */
const CHUNK_BYTES = 4096;
/** Receive buffers that one read may fill, in bytes: what Linux gives for a packet, and the most. */
const LEAST_WINDOW = 4096;
const MOST_WINDOW = 64 * 1024;

/** Pieces of guest RAM in one write, well below what writev takes. */
const MOST_PIECES = 512;

/** What a connection tells its device. */
export interface ConnectionEvents {
	/** The way into the machine for events of the stream. */
	enter(run: () => void): void;
	/** `fill` may have a packet. */
	ready(connection: Connection): void;
	/** The host's stream has failed. The guest must get a reset. */
	broken(connection: Connection): void;
}

/** The initial values of a connection. */
export interface ConnectionOptions {
	readonly hostPort: number;
	readonly guestPort: number;
	/** Which side has asked for it: the host or the guest. */
	readonly state: "request" | "opening";
	/** Bytes that the guest may send before we have taken any. */
	readonly bufAlloc: number;
}

export class Connection {
	readonly hostPort: number;
	readonly guestPort: number;
	/**
	 * "request": the host asked, the guest has not answered. "opening": the guest asked, the backend has not answered.
	 * "closed" is final.
	 */
	state: "request" | "opening" | "established" | "closed";
	/** The device's list of connections that have a packet to send. */
	next: Connection | undefined;
	scheduled = false;
	readonly #events: ConnectionEvents;
	readonly #bufAlloc: number;
	#stream: Duplex | undefined;
	/** The same, while bytes may go to it, or come from it, directly. */
	#directOut: DirectStream | undefined;
	#directIn: DirectStream | undefined;
	/** How many bytes the next read asks for: more while reads are full. */
	#window = LEAST_WINDOW;
	/** Payload of the guest that is still in its chains. */
	readonly #joined = new Segments();
	/** OP_REQUEST, OP_RESPONSE, OP_CREDIT_UPDATE and OP_CREDIT_REQUEST still to be sent, a bit for each. */
	#pendingOps = 0;

	/* Guest to host. Counters are u32 and wrap, as on the wire. */
	#rxCnt = 0;
	#fwdCnt = 0;
	#lastSentFwdCnt = 0;
	#guestShutdown = 0;
	/** Chunks that wait for the current write. Only the last one has room, from #incomingEnd on. */
	#incoming: Buffer[] = [];
	#incomingEnd = 0;
	/** Bytes of the current write; 0 when there is none. */
	#writing = 0;

	/* Host to guest. */
	#txCnt = 0;
	#peerBufAlloc = 0;
	#peerFwdCnt = 0;
	#creditAsked = false;
	#chunks: Uint8Array[] = [];
	#offset = 0;
	#queuedBytes = 0;
	#shutdownDue = 0;
	#shutdownSent = 0;

	constructor({ hostPort, guestPort, state, bufAlloc }: ConnectionOptions, events: ConnectionEvents) {
		this.hostPort = hostPort;
		this.guestPort = guestPort;
		this.state = state;
		this.#bufAlloc = bufAlloc;
		this.#events = events;
		if (state === "request") this.#pendingOps = 1 << VIRTIO_VSOCK_OP_REQUEST;
	}

	/** Both sides agreed; from here `stream` is this connection's. */
	establish(stream: Duplex): void {
		if (this.state === "opening") this.#pendingOps |= 1 << VIRTIO_VSOCK_OP_RESPONSE;
		this.state = "established";
		this.#stream = stream;
		stream.on("error", ignore);
		stream.on("close", this.#closed);
		stream.on("end", this.#ended);
		if (isDirect(stream)) {
			for (let early = stream.read(); early !== null; early = stream.read()) this.#take(early);
			this.#directOut = this.#directIn = stream;
			stream.onReadable(this.#readable);
		}
		stream.on("data", this.#data);
		stream.resume();
		if (stream.destroyed) queueMicrotask(this.#closed);
		else if (stream.readableEnded) this.#ended();
		this.#events.ready(this);
	}

	/** Takes the credit fields that every packet of the guest carries. */
	update(bufAlloc: number, fwdCnt: number): void {
		this.#peerBufAlloc = bufAlloc;
		this.#peerFwdCnt = fwdCnt;
		if (this.#credit() > 0) this.#creditAsked = false;
		if (this.hasPending()) this.#events.ready(this);
	}

	/** The guest has sent CREDIT_REQUEST. */
	creditRequested(): void {
		this.#pendingOps |= 1 << VIRTIO_VSOCK_OP_CREDIT_UPDATE;
		this.#events.ready(this);
	}

	/**
	 * Takes `length` payload bytes of a chain. False when the guest must not have sent them: beyond its credit, after
	 * its SHUTDOWN_SEND, or into a stream that is not established.
	 */
	received(from: Segments, length: number): boolean {
		const stream = this.#stream;
		if (this.state !== "established" || stream === undefined) return false;
		if ((this.#guestShutdown & VIRTIO_VSOCK_SHUTDOWN_F_SEND) !== 0) return false;
		const held = (this.#rxCnt - this.#fwdCnt) >>> 0;
		if (held + length > this.#bufAlloc) return false;
		if (length === 0) return true;
		this.#rxCnt = (this.#rxCnt + length) >>> 0;
		if (!stream.writable) return true;
		if (this.#directOut !== undefined && this.#writing === 0) {
			this.#joined.append(from, HEADER_BYTES, length);
			if (this.#joined.count >= MOST_PIECES) this.writeJoined();
		} else {
			this.#gather(from, HEADER_BYTES, length);
			if (this.#writing === 0) this.#write(stream);
		}
		return true;
	}

	/**
	 * Writes the payloads that `received` has joined. The device calls it before it looks at a packet of another kind or
	 * connection, and before it gives their chains back.
	 */
	writeJoined(): void {
		const joined = this.#joined;
		const length = joined.totalBytes;
		if (length === 0) return;
		const sent = this.#directOut?.writeNow(joined) ?? 0;
		if (sent < length && this.#stream?.writable) {
			this.#gather(joined, sent, length - sent);
			this.#write(this.#stream);
		}
		joined.clear();
		if (sent > 0) this.#consumed(sent);
	}

	/** Puts a part of the payload behind what waits for the stream. */
	#gather(from: Segments, offset: number, length: number): void {
		let copied = 0;
		const last = this.#incoming.at(-1);
		if (last !== undefined && this.#incomingEnd < last.length) {
			const room = last.subarray(this.#incomingEnd, this.#incomingEnd + length);
			copied = from.copyTo(room, offset);
			this.#incomingEnd += copied;
			if (copied === length) return;
		}
		const rest = length - copied;
		/* With nothing under way it is written at once and needs no room for more. */
		const chunk = this.#writing === 0 ? Buffer.allocUnsafe(rest) : Buffer.allocUnsafeSlow(Math.max(rest, CHUNK_BYTES));
		from.copyTo(chunk.subarray(0, rest), offset + copied);
		this.#incoming.push(chunk);
		this.#incomingEnd = rest;
	}

	/** Writes all that waits. */
	#write(stream: Duplex): void {
		const chunks = this.#incoming;
		if (chunks.length === 0) return;
		this.#incoming = [];
		const last = chunks.pop()!.subarray(0, this.#incomingEnd);
		const length = chunks.reduce((sum, chunk) => sum + chunk.length, last.length);
		this.#writing += length;
		stream.cork();
		for (const chunk of chunks) stream.write(chunk);
		stream.write(last, () => this.#events.enter(() => this.#written(length)));
		stream.uncork();
	}

	#written(length: number): void {
		this.#writing -= length;
		const stream = this.#stream;
		if (this.#writing === 0 && stream?.writable) this.#write(stream);
		this.#consumed(length);
	}

	/** The guest ends a half or both. True when both have ended: the device then sends RST and nothing else. */
	shutdown(flags: number): boolean {
		const before = this.#guestShutdown;
		this.#guestShutdown |= flags & SHUTDOWN_BOTH;
		const added = this.#guestShutdown & ~before;
		if ((added & VIRTIO_VSOCK_SHUTDOWN_F_SEND) !== 0 && this.#stream !== undefined) {
			if (this.#stream.writable) this.#write(this.#stream);
			this.#stream.end();
		}
		if ((added & VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE) !== 0) this.#forget();
		return this.#guestShutdown === SHUTDOWN_BOTH;
	}

	/**
	 * Ends the connection. The bytes that the guest sent before it closed in order are still delivered: in that case the
	 * stream is returned, to be destroyed when it has finished or with the device.
	 */
	close(): Duplex | undefined {
		const stream = this.#stream;
		const orderly = (this.#guestShutdown & VIRTIO_VSOCK_SHUTDOWN_F_SEND) !== 0;
		this.state = "closed";
		this.#stream = undefined;
		this.#incoming = [];
		this.#forget();
		if (stream === undefined) return undefined;
		stream.off("data", this.#data);
		stream.off("end", this.#ended);
		stream.off("close", this.#closed);
		if (!orderly || stream.writableFinished || stream.destroyed) {
			stream.destroy();
			return undefined;
		}
		stream.resume();
		return stream;
	}

	/** Whether `fill` has a packet now. */
	hasPending(): boolean {
		if (this.state === "closed") return false;
		if (this.#pendingOps !== 0) return true;
		if (this.#queuedBytes > 0 || this.#directIn?.mayRead) return this.#credit() > 0 || !this.#creditAsked;
		return this.#shutdownDue !== this.#shutdownSent;
	}

	/** Bytes that a read may give now for several packets: see readSeveral. 0 when the next packet is another one. */
	get readableBytes(): number {
		if (this.#pendingOps !== 0 || this.#queuedBytes > 0 || !this.#directIn?.mayRead) return 0;
		return Math.min(this.#credit(), this.#window);
	}

	/**
	 * Reads payload into `payload`, the parts after the headers of several packets. Returns how many bytes there are: they
	 * fill the first packets. `headed` writes the header of each.
	 */
	readSeveral(payload: Segments): number {
		const got = this.#directIn?.readNow(payload) ?? 0;
		this.#window = got < payload.totalBytes ? LEAST_WINDOW : Math.min(4 * this.#window, MOST_WINDOW);
		return got;
	}

	/** Writes the header of a packet of `payload` bytes that readSeveral has read. Returns the packet's length. */
	headed(header: Packet, into: Segments, payload: number): number {
		this.#txCnt = (this.#txCnt + payload) >>> 0;
		return this.#finish(header, into, { op: VIRTIO_VSOCK_OP_RW, flags: 0, payload });
	}

	/**
	 * Writes the next packet into `into`, whose length is at least a header's; `header` has the addresses already.
	 * Returns the packet's length in bytes, 0 when there is no room for even one byte of payload.
	 */
	fill(header: Packet, into: Segments): number {
		let op: number;
		let flags = 0;
		let payload = 0;
		if (this.#pendingOps !== 0) {
			op = 31 - Math.clz32(this.#pendingOps & -this.#pendingOps);
			this.#pendingOps &= this.#pendingOps - 1;
		} else if (this.#queuedBytes > 0 || this.#directIn?.mayRead) {
			const credit = this.#credit();
			if (credit > 0) {
				op = VIRTIO_VSOCK_OP_RW;
				payload = Math.min(this.#queuedBytes, credit, into.totalBytes - HEADER_BYTES, PAYLOAD_BYTES);
				if (payload === 0) return 0;
				this.#drain(into, payload);
				this.#txCnt = (this.#txCnt + payload) >>> 0;
			} else {
				op = VIRTIO_VSOCK_OP_CREDIT_REQUEST;
				this.#creditAsked = true;
			}
		} else {
			op = VIRTIO_VSOCK_OP_SHUTDOWN;
			flags = this.#shutdownDue;
			this.#shutdownSent = flags;
		}
		return this.#finish(header, into, { op, flags, payload });
	}

	#finish(header: Packet, into: Segments, { op, flags, payload }: { op: number; flags: number; payload: number }) {
		/* Every packet carries the credit, so a pending CREDIT_UPDATE is no longer needed. */
		this.#pendingOps &= ~(1 << VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		this.#lastSentFwdCnt = this.#fwdCnt;
		header.setOp(op, flags, payload);
		header.credit(this.#bufAlloc, this.#fwdCnt);
		into.copyFrom(header.bytes);
		return HEADER_BYTES + payload;
	}

	/** Bytes that the guest has room for; 0 when a wrong credit makes it negative. */
	#credit(): number {
		return Math.max(0, this.#peerBufAlloc - ((this.#txCnt - this.#peerFwdCnt) >>> 0));
	}

	#drain(into: Segments, length: number): void {
		let at = HEADER_BYTES;
		let rest = length;
		while (rest > 0) {
			const chunk = this.#chunks[0]!;
			const part = Math.min(rest, chunk.length - this.#offset);
			into.copyFrom(chunk.subarray(this.#offset, this.#offset + part), at);
			at += part;
			rest -= part;
			this.#offset += part;
			if (this.#offset === chunk.length) {
				this.#chunks.shift();
				this.#offset = 0;
			}
		}
		const before = this.#queuedBytes;
		this.#queuedBytes = before - length;
		if (before >= QUEUE_BYTES && this.#queuedBytes < QUEUE_BYTES) this.#stream?.resume();
	}

	#forget(): void {
		this.#chunks = [];
		this.#offset = 0;
		this.#queuedBytes = 0;
		this.#directIn?.onReadable(undefined);
		this.#directIn = undefined;
		if (this.state !== "closed") this.#stream?.resume();
	}

	#consumed(length: number): void {
		if (this.state === "closed") return;
		this.#fwdCnt = (this.#fwdCnt + length) >>> 0;
		if ((this.#fwdCnt - this.#lastSentFwdCnt) >>> 0 < this.#bufAlloc / 2) return;
		this.#pendingOps |= 1 << VIRTIO_VSOCK_OP_CREDIT_UPDATE;
		this.#events.ready(this);
	}

	readonly #readable = (): void => this.#events.ready(this);
	readonly #data = (chunk: Uint8Array): void => this.#events.enter(() => this.#take(chunk));
	readonly #ended = (): void => this.#events.enter(() => this.#end());
	readonly #closed = (): void => this.#events.enter(() => this.#gone());

	#take(chunk: Uint8Array): void {
		if ((this.#guestShutdown & VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE) !== 0 || chunk.length === 0) return;
		this.#chunks.push(chunk);
		this.#queuedBytes += chunk.length;
		if (this.#queuedBytes >= QUEUE_BYTES) this.#stream?.pause();
		this.#events.ready(this);
	}

	#end(): void {
		this.#shutdownDue |= VIRTIO_VSOCK_SHUTDOWN_F_SEND;
		this.#events.ready(this);
	}

	#gone(): void {
		const stream = this.#stream;
		if (this.state === "closed" || stream === undefined) return;
		if (!stream.readableEnded || !stream.writableFinished) {
			this.#events.broken(this);
			return;
		}
		/* Both halves ended in order: nobody is there to receive either. */
		this.#shutdownDue = SHUTDOWN_BOTH;
		this.#events.ready(this);
	}
}

function isDirect(stream: Duplex): stream is DirectStream {
	return "writeNow" in stream;
}
