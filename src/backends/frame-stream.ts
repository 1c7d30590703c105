/*
 * Ethernet frames over a stream socket, as QEMU's -netdev stream and passt have them: each frame after its length as a
 * big-endian u32.
 *
 *     send -> batch -> socket      all frames of one turn are one write
 *     take <- frames <- socket     what is received but not taken is bounded; then the other side waits
 */
import type { Socket } from "node:net";
import { type Enter, enterDirectly } from "../base/enter.ts";
import { ignore } from "../base/errors.ts";
import { log } from "../base/log.ts";
import type { Segments } from "../base/segments.ts";

/** The largest IP packet on such a network. No real wire carries it, but a large frame costs as little as a small one. */
export const STREAM_MTU = 65_520;
export const MAX_FRAME_BYTES = STREAM_MTU + 18;
export const MIN_FRAME_BYTES = 14;

const LENGTH_BYTES = 4;
/** The most bytes that are received but not taken. Then the other side has to wait. */
const RECEIVE_BYTES = 1 << 20;
/** The most bytes that are sent but that the other side has not read. Then `send` gives false. */
const SEND_BYTES = 1 << 20;
const BATCH_BYTES = 256 * 1024;

/** Calls to the owner of a FrameStream. */
export interface FrameStreamEvents {
	/** `take` may have a frame now. Called again only after `take` has given undefined. */
	readable(): void;
	/** `send` takes frames again, after it returned false. */
	writable(): void;
	/** The other side has gone, or has sent what is no frame. From now on `send` drops every frame. */
	lost(): void;
}

export interface FrameStreamOptions {
	/** Who is on the other side, for the log. */
	name: string;
	/** The way into the machine that the stream belongs to. */
	enter?: Enter | undefined;
	/** Looks at each frame that comes. */
	saw?: (frame: Buffer) => void;
	/** Whether a frame may be sent: `length` bytes of `bytes` from `at`. One that may not is dropped. */
	admits?: (bytes: Buffer, at: number, length: number) => boolean;
}

export class FrameStream {
	readonly #socket: Socket;
	readonly #name: string;
	readonly #enter: Enter;
	readonly #saw: FrameStreamOptions["saw"];
	readonly #admits: FrameStreamOptions["admits"];
	#events: FrameStreamEvents | undefined;
	/* Frames received. Those before #first are taken. */
	#frames: Buffer[] = [];
	#first = 0;
	#receivedBytes = 0;
	/** A frame that has come in part: room for all of it, and how many bytes are there. */
	#partial: Buffer | undefined;
	#partialBytes = 0;
	/** A length that has come in part. */
	readonly #prefix = Buffer.alloc(LENGTH_BYTES);
	#prefixBytes = 0;
	/** `take` has given undefined, or was not called yet. */
	#starved = true;
	#batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
	#batched = 0;
	#refused = false;
	#closing = false;

	/** @param socket from now on this stream's */
	constructor(socket: Socket, { name, enter = enterDirectly, saw, admits }: FrameStreamOptions) {
		this.#socket = socket;
		this.#name = name;
		this.#enter = enter;
		this.#saw = saw;
		this.#admits = admits;
		socket.on("error", ignore);
		socket.on("data", (chunk: Buffer) => enter(name, () => this.#received(chunk)));
		socket.on("drain", () => enter(name, () => this.#drained()));
		socket.on("close", () => enter(name, () => this.#lost()));
		socket.resume();
	}

	/** Called once, before anything else. */
	start(events: FrameStreamEvents): void {
		this.#events = events;
		if (this.#socket.destroyed) events.lost();
		if (this.#first < this.#frames.length) this.#wake();
	}

	/** Takes a frame. False: no room now; send it again after `writable`. */
	send(frame: Segments): boolean {
		const length = frame.totalBytes;
		if (this.#drops(length)) return true;
		if (this.#isFull()) return false;
		frame.copyTo(this.#reserve(length));
		this.#commit(length);
		return true;
	}

	/** As `send`, of bytes. */
	sendBytes(frame: Uint8Array): boolean {
		if (this.#drops(frame.length)) return true;
		if (this.#isFull()) return false;
		this.#reserve(frame.length).set(frame);
		this.#commit(frame.length);
		return true;
	}

	/** The next frame; undefined when none waits. */
	take(): Buffer | undefined {
		const frame = this.#frames[this.#first];
		if (frame === undefined) {
			this.#starved = true;
			return undefined;
		}
		this.#first++;
		if (this.#first === this.#frames.length) {
			this.#frames = [];
			this.#first = 0;
		}
		const before = this.#receivedBytes;
		this.#receivedBytes = before - frame.length;
		if (before >= RECEIVE_BYTES && this.#receivedBytes < RECEIVE_BYTES) this.#socket.resume();
		return frame;
	}

	/** Fills in the next frame, as NetBackend.receive does. */
	receive(into: Segments): number {
		const frame = this.take();
		if (frame === undefined) return 0;
		return frame.length > into.totalBytes ? -1 : into.copyFrom(frame);
	}

	/** Ends the connection. No event follows. */
	close(): void {
		this.#closing = true;
		this.#events = undefined;
		this.#socket.destroy();
	}

	#drops(length: number): boolean {
		return length > MAX_FRAME_BYTES || this.#socket.destroyed;
	}

	#isFull(): boolean {
		if (this.#socket.writableLength < SEND_BYTES) return false;
		this.#refused = true;
		return true;
	}

	/** Room for a frame in the batch. */
	#reserve(length: number): Buffer {
		if (this.#batched + LENGTH_BYTES + length > BATCH_BYTES) this.#flush();
		const start = this.#batched + LENGTH_BYTES;
		return this.#batch.subarray(start, start + length);
	}

	#commit(length: number): void {
		const at = this.#batched;
		this.#batch.writeUInt32BE(length, at);
		if (this.#admits?.(this.#batch, at + LENGTH_BYTES, length) === false) return;
		/* One write has all frames of this turn. */
		if (at === 0) queueMicrotask(() => this.#enter(this.#name, () => this.#flush()));
		this.#batched = at + LENGTH_BYTES + length;
	}

	#flush(): void {
		const length = this.#batched;
		this.#batched = 0;
		if (length === 0 || this.#socket.destroyed) return;
		this.#socket.write(this.#batch.subarray(0, length));
		/* Bytes that the kernel did not take wait here. */
		if (this.#socket.writableLength > 0) this.#batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
	}

	#lost(): void {
		if (this.#closing) return;
		this.#refused = false;
		this.#events?.lost();
	}

	#drained(): void {
		if (!this.#refused) return;
		this.#refused = false;
		this.#events?.writable();
	}

	/** Frames that are whole in a chunk stay where they are. Only one that comes in pieces is copied. */
	#received(chunk: Buffer): void {
		let at = 0;
		while (at < chunk.length) {
			if (this.#partial !== undefined) {
				at += this.#fill(this.#partial, chunk, at);
				continue;
			}
			if (this.#prefixBytes > 0 || chunk.length - at < LENGTH_BYTES) {
				const got = chunk.copy(this.#prefix, this.#prefixBytes, at);
				at += got;
				this.#prefixBytes += got;
				if (this.#prefixBytes < LENGTH_BYTES) break;
			}
			const isSplit = this.#prefixBytes > 0;
			const length = isSplit ? this.#prefix.readUInt32BE() : chunk.readUInt32BE(at);
			if (!isSplit) at += LENGTH_BYTES;
			this.#prefixBytes = 0;
			if (length < MIN_FRAME_BYTES || length > MAX_FRAME_BYTES) {
				log("error", `${this.#name} sent a frame of ${length} bytes`);
				this.#socket.destroy();
				return;
			}
			if (chunk.length - at < length) {
				this.#partial = Buffer.allocUnsafe(length);
				this.#partialBytes = 0;
			} else {
				this.#arrived(chunk.subarray(at, at + length));
				at += length;
			}
		}
		if (this.#receivedBytes >= RECEIVE_BYTES) this.#socket.pause();
		if (this.#first < this.#frames.length) this.#wake();
	}

	/** Puts the next bytes of a chunk into a frame that has come in part. Returns how many. */
	#fill(frame: Buffer, chunk: Buffer, at: number): number {
		const got = chunk.copy(frame, this.#partialBytes, at);
		this.#partialBytes += got;
		if (this.#partialBytes === frame.length) {
			this.#partial = undefined;
			this.#arrived(frame);
		}
		return got;
	}

	#arrived(frame: Buffer): void {
		this.#saw?.(frame);
		this.#frames.push(frame);
		this.#receivedBytes += frame.length;
	}

	#wake(): void {
		if (!this.#starved || this.#events === undefined) return;
		this.#starved = false;
		this.#events.readable();
	}
}
