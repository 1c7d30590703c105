/*
 * A Duplex seen as frames, with HELLO: what AgentClient and AgentBroker both stand on. Control frames are always
 * written; whoever sends data asks `send` whether there is room and waits for `drained` if not.
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

/** What the owner of a connection is told. */
export interface ConnectionEvents {
	/** A frame other than HELLO. What it throws ends the connection. */
	frame(frame: Frame): void;
	/** There is room again after `send` returned false. */
	drained(): void;
	/** The stream has ended; called once. `error` says why when it was not orderly. */
	closed(error: Error | undefined): void;
}

/** A HELLO that was sent; it stays until its answer comes, even when nobody waits any more. */
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

	/** Writes a frame. @return false when the stream wants to drain first; the frame is on its way all the same */
	send(type: number, flags: number, session: number, payload?: Uint8Array): boolean {
		if (this.#closed) return true;
		return this.#stream.write(encodeFrame(type, flags, session, payload));
	}

	/**
	 * Asks the agent who it is. The first HELLO also finds the place in the stream: everything before its answer is
	 * left over from an earlier host and skipped.
	 *
	 * @param options.forget end the sessions of earlier hosts (default true)
	 * @param options.timeoutMs how long the answer may take (default 30000)
	 */
	hello(options: { forget?: boolean; timeoutMs?: number } = {}): Promise<Hello> {
		const { forget = true, timeoutMs = 30000 } = options;
		if (!this.#greeted) this.#splitter = new FrameSplitter(true);
		const nonce = randomBytes(8);
		return new Promise<Hello>((resolve, reject) => {
			const timer = setTimeout(() => {
				reject(new TsvmmError("ERR_AGENT_TIMEOUT", `Cannot reach the guest agent: no answer for ${timeoutMs} ms`));
			}, timeoutMs);
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

	/** Nothing that the other side sends throws out of here: it ends the connection. */
	#receive(chunk: Buffer): void {
		if (this.#closed) return;
		try {
			for (const frame of this.#splitter.push(chunk)) {
				if (frame.type === FRAME.HELLO) this.#answered(frame);
				else if (this.#greeted) this.#events.frame(frame);
				if (this.#closed) return;
			}
		} catch (error) {
			if (!(error instanceof TsvmmError)) throw error; /* out of a reader's own listener */
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
			const ours = PROTOCOL_MIN === PROTOCOL_MAX ? `${PROTOCOL_MIN}` : `${PROTOCOL_MIN} to ${PROTOCOL_MAX}`;
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

/** What everybody who waits for the agent is told when the stream ends. */
export function connectionLost(cause: Error | undefined): TsvmmError {
	if (cause instanceof TsvmmError) return cause;
	const reason = cause === undefined ? "the connection was closed" : cause.message;
	return new TsvmmError("ERR_AGENT_LOST", `Cannot talk to the guest agent: ${reason}`, { cause });
}
