/*
 * Frames over a Duplex, and HELLO. AgentClient and AgentBroker both use it. Control frames are always written. A sender
 * of data stops when `send` returns false, and goes on at `drained`.
 */
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { TsvmmError } from "../base/errors.ts";
import { protocolError } from "./exchange.ts";
import {
	decodeHelloAnswer,
	encodeFrame,
	encodeHello,
	FRAME,
	type Frame,
	type Hello,
	PROTOCOL_MAX,
	PROTOCOL_MIN,
} from "./protocol.ts";
import { FrameSplitter } from "./splitter.ts";

/** Callbacks to the owner of a connection. */
export interface ConnectionEvents {
	/** A frame other than HELLO has arrived. An error that it throws ends the connection. */
	frame(frame: Frame): void;
	/** The stream has room again, after `send` returned false. */
	drained(): void;
	/** The stream has ended. Called once, with `error` when it did not end in order. */
	closed(error: Error | undefined): void;
}

/** A HELLO that was sent. It is kept until its answer comes, even when nobody waits for that. */
interface PendingHello {
	nonce: Buffer;
	resolve(hello: Hello): void;
	reject(error: Error): void;
}

export class FrameConnection {
	readonly #stream: Duplex;
	readonly #events: ConnectionEvents;
	#splitter = new FrameSplitter();
	readonly #hellos: PendingHello[] = [];
	#greeted = false;
	#closed = false;

	constructor(stream: Duplex, events: ConnectionEvents) {
		this.#stream = stream;
		this.#events = events;
		stream.on("data", (chunk: Buffer) => this.#receive(chunk));
		stream.on("drain", () => events.drained());
		stream.on("error", (error: Error) => this.#close(error));
		stream.on("end", () => this.#close(undefined));
		stream.on("close", () => this.#close(undefined));
	}

	get closed(): boolean {
		return this.#closed;
	}

	/** Writes a frame. @return false when the stream is full; the frame was written nevertheless */
	send(type: number, flags: number, session: number, payload?: Uint8Array): boolean {
		if (this.#closed) return true;
		return this.#stream.write(encodeFrame(type, flags, session, payload));
	}

	/**
	 * Asks the agent who it is. The answer to the first HELLO also marks where the stream begins. All bytes before it
	 * belong to an earlier host and are skipped.
	 *
	 * @param options.forget end the sessions of earlier hosts (default true)
	 * @param options.timeoutMs how long the answer may take (default 30000); Infinity for as long as it likes
	 */
	hello(options: { forget?: boolean; timeoutMs?: number } = {}): Promise<Hello> {
		const { forget = true, timeoutMs = 30000 } = options;
		if (!this.#greeted) this.#splitter = new FrameSplitter(true);
		const nonce = randomBytes(8);
		return new Promise<Hello>((resolve, reject) => {
			const giveUp = () => {
				reject(new TsvmmError("ERR_AGENT_TIMEOUT", `Cannot reach the guest agent: no answer for ${timeoutMs} ms`));
			};
			const timer = Number.isFinite(timeoutMs) ? setTimeout(giveUp, timeoutMs) : undefined;
			this.#hellos.push({
				nonce,
				resolve: (hello) => {
					clearTimeout(timer);
					resolve(hello);
				},
				reject: (error) => {
					clearTimeout(timer);
					reject(error);
				},
			});
			if (this.#closed) this.#failHellos(undefined);
			else this.#stream.write(encodeHello(nonce, forget));
		});
	}

	/** Ends the stream. */
	destroy(): void {
		this.#stream.destroy();
		this.#close(undefined);
	}

	/** Bad input of the other side ends the connection. It never throws. */
	#receive(chunk: Buffer): void {
		if (this.#closed) return;
		try {
			for (const frame of this.#splitter.push(chunk)) {
				if (frame.type === FRAME.HELLO) this.#answered(frame);
				else if (this.#greeted) this.#events.frame(frame);
				if (this.#closed) return;
			}
		} catch (error) {
			if (!(error instanceof TsvmmError)) throw error; /* not from within the reader's listener */
			this.#stream.destroy();
			this.#close(error);
		}
	}

	#answered({ payload }: Frame): void {
		const at = this.#hellos.findIndex(({ nonce }) => decodeHelloAnswer(payload, nonce) !== undefined);
		if (at < 0) {
			if (this.#greeted) throw protocolError("HELLO that answers none of ours");
			return; /* the answer to an earlier host */
		}
		const pending = this.#hellos.splice(at, 1)[0]!;
		const hello = decodeHelloAnswer(payload, pending.nonce)!;
		if (hello.version < PROTOCOL_MIN || hello.version > PROTOCOL_MAX) {
			const ours = `${PROTOCOL_MIN} to ${PROTOCOL_MAX}`;
			const message = `Cannot talk to the guest agent: it speaks version ${hello.version} of the protocol, we ${ours}`;
			const error = new TsvmmError("ERR_AGENT_VERSION", message, {
				hint: "End its machine if an older tsvmm started it (tsvmm lab down), or build the agent anew (npm run setup)",
			});
			pending.reject(error);
			throw error;
		}
		this.#greeted = true;
		pending.resolve(hello);
	}

	#failHellos(error: Error | undefined): void {
		for (const pending of this.#hellos.splice(0)) pending.reject(connectionLost(error));
	}

	#close(error: Error | undefined): void {
		if (this.#closed) return;
		this.#closed = true;
		this.#failHellos(error);
		this.#events.closed(error);
	}
}

/** The error for all who wait for the agent when the stream ends. */
export function connectionLost(cause: Error | undefined): TsvmmError {
	if (cause instanceof TsvmmError) return cause;
	const reason = cause === undefined ? "the connection was closed" : cause.message;
	return new TsvmmError("ERR_AGENT_LOST", `Cannot talk to the guest agent: ${reason}`, { cause });
}
