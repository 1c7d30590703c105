/*
 * A connected socket as a Duplex whose bytes can also pass without a copy: between the socket and guest RAM, by readv
 * and writev.
 *
 *     writeNow(list) ---> writev at once; what the socket has no room for goes by `write`, which waits for room
 *     readNow(list) <---- readv when `readable` was called; nothing is read ahead, so the sender waits in the kernel
 *
 * Without `onReadable` it is read as any other stream. Node's own sockets can neither write nor read a list of addresses.
 */
import type { Socket } from "node:net";
import { constants } from "node:os";
import { Duplex } from "node:stream";
import type { Enter } from "../base/enter.ts";
import { HostError } from "../base/errors.ts";
import { Segments } from "../base/segments.ts";
import { addressOf, close, duplicate, endSending, errnoNameOf, setSendBuffer } from "../host/libc.ts";
import { READABLE, type Watch, WRITABLE, watch } from "../host/reactor.ts";
import { readSegments, writeSegments } from "../host/scatter.ts";
import type { DirectStream } from "./contract.ts";

const CHUNK_BYTES = 64 * 1024;
/** The kernel doubles it, for what it needs itself. So all that a guest has credit for fits: 256 KiB. */
const SEND_BYTES = 160 * 1024;
const EAGAIN = -constants.errno.EAGAIN;
const EINTR = -constants.errno.EINTR;

export interface SocketStreamOptions {
	/** The way into the machine that the stream belongs to. */
	enter: Enter;
	/** Of the backend. */
	name: string;
}

export class SocketStream extends Duplex implements DirectStream {
	readonly #fd: number;
	readonly #watch: Watch;
	/** The events that the watch waits for, and those that are wanted. */
	#waiting = 0;
	#wanted = 0;
	#handling = false;
	#readable: (() => void) | undefined;
	#mayRead = false;
	/** What `_write` has left. */
	readonly #rest = new Segments();
	#written: ((error?: Error) => void) | undefined;
	readonly #part = new Segments();

	/**
	 * Takes a socket of Node's over, which is destroyed. It must have read nothing: call this when it connects.
	 *
	 * @throws HostError ERR_SOCKET without a descriptor
	 */
	static takeOver(socket: Socket, options: SocketStreamOptions): SocketStream {
		const { fd = -1 } = (socket as Socket & { _handle?: { fd?: number } | null })._handle ?? {};
		const own = duplicate(fd);
		socket.destroy();
		if (own < 0) throw failed("take over a socket", own);
		setSendBuffer(own, SEND_BYTES);
		return new SocketStream(own, options);
	}

	private constructor(fd: number, options: SocketStreamOptions) {
		super({ allowHalfOpen: true, readableHighWaterMark: CHUNK_BYTES });
		this.#fd = fd;
		this.#watch = watch(fd, 0, (events) => this.#ready(events), options);
	}

	get mayRead(): boolean {
		return this.#mayRead;
	}

	writeNow(from: Segments): number {
		if (this.writableLength > 0 || this.#written !== undefined || !this.writable) return 0;
		return Math.max(
			0,
			again(() => writeSegments(this.#fd, from)),
		);
	}

	onReadable(readable: (() => void) | undefined): void {
		this.#readable = readable;
		this.#mayRead = false;
		if (!this.destroyed && !this.readableEnded) this.#want(READABLE);
	}

	readNow(into: Segments): number {
		const got = this.destroyed ? EAGAIN : again(() => readSegments(this.#fd, into));
		/* A short read has emptied the socket. */
		this.#mayRead = got === into.totalBytes;
		if (got > 0 || got === EAGAIN) {
			if (!this.#mayRead && !this.destroyed) this.#want(READABLE);
			return Math.max(0, got);
		}
		if (got === 0) this.push(null);
		else this.destroy(failed("read", got));
		return 0;
	}

	override _read(): void {
		if (this.#readable === undefined) this.#want(READABLE);
	}

	override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
		this.#rest.clear();
		/* With an address it goes by writev, whose errors are no exceptions: here the socket is mostly full. */
		this.#rest.add({ bytes: chunk, hva: Number(addressOf(chunk)) }, 0, chunk.length);
		this.#written = done;
		this.#send();
	}

	override _final(done: (error?: Error | null) => void): void {
		endSending(this.#fd);
		done();
	}

	override _destroy(error: Error | null, done: (error: Error | null) => void): void {
		this.#mayRead = false;
		this.#watch.close();
		close(this.#fd);
		done(error);
	}

	#ready(events: number): void {
		this.#handling = true;
		/* An error comes as READABLE, whatever is wanted, and ends the watch. A write finds out which one it is. */
		const isError = (events & ~this.#wanted) !== 0;
		if (isError) this.#waiting = 0;
		this.#wanted &= ~events;
		if ((events & WRITABLE) !== 0 || isError) this.#send();
		if ((events & READABLE) !== 0 && !this.destroyed) this.#receive();
		this.#handling = false;
		this.#want(0);
	}

	#receive(): void {
		if (this.#readable !== undefined) {
			this.#mayRead = true;
			this.#readable();
			return;
		}
		const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
		this.#part.clear();
		this.#part.add({ bytes: chunk, hva: 0 }, 0, chunk.length);
		const got = again(() => readSegments(this.#fd, this.#part));
		if (got > 0) this.push(chunk.subarray(0, got));
		else if (got === 0) this.push(null);
		else if (got === EAGAIN) this.#want(READABLE);
		else this.destroy(failed("read", got));
	}

	/** Writes what `_write` has left, as far as there is room. */
	#send(): void {
		const done = this.#written;
		if (done === undefined) return;
		const rest = this.#rest;
		while (rest.totalBytes > 0) {
			const sent = again(() => writeSegments(this.#fd, rest));
			if (sent === EAGAIN) {
				this.#want(WRITABLE);
				return;
			}
			if (sent < 0) {
				this.#written = undefined;
				done(failed("write", sent));
				return;
			}
			rest.slice(sent, rest.totalBytes - sent, this.#part);
			this.#part.slice(0, this.#part.totalBytes, rest);
		}
		this.#written = undefined;
		done();
	}

	/** Waits for these events, too. While one is handled nothing changes: mostly it is wanted again at the end. */
	#want(events: number): void {
		this.#wanted |= events;
		if (this.#handling || this.destroyed || this.#wanted === this.#waiting) return;
		this.#waiting = this.#wanted;
		this.#watch.set(this.#waiting);
	}
}

function again(call: () => number): number {
	let result: number;
	do result = call();
	while (result === EINTR);
	return result;
}

function failed(what: string, result: number): HostError {
	return new HostError("ERR_SOCKET", `Cannot ${what}: ${errnoNameOf(-result)}`);
}
