/*
 * Checks the frames of one request's session, in both directions, against the only order there is. The guest may be
 * hostile: a frame that is malformed, too early, too late or larger than the window is an error, which ends the
 * connection.
 *
 *     EXEC  -> FAILED | STARTED -> { STDOUT STDERR until an empty one, CREDIT, STDIN_CLOSE once } -> EXIT
 *     SETUP, REMOVE, CLOCK, HOLD -> DONE | FAILED      PING -> PONG      POWEROFF -> FAILED
 */
import { TsvmmError } from "../base/errors.ts";
import {
	CREDIT_STDERR,
	CREDIT_STDIN,
	CREDIT_STDOUT,
	FAILED_TEXT_MAX,
	FLAG_MORE,
	FLAG_OUT_OF_MEMORY,
	FLAG_RELEASE,
	FLAG_RESET,
	FRAME,
	type Frame,
	OUTPUT_WINDOW,
	PING_MAX,
	STDIN_WINDOW,
} from "./protocol.ts";

/** Frames that begin a session. */
const REQUESTS: ReadonlySet<number> = new Set([
	FRAME.EXEC,
	FRAME.SETUP,
	FRAME.REMOVE,
	FRAME.PING,
	FRAME.CLOCK,
	FRAME.POWEROFF,
	FRAME.HOLD,
]);
/** Requests that are answered by DONE. */
const DONE_FOR: ReadonlySet<number> = new Set([FRAME.SETUP, FRAME.REMOVE, FRAME.CLOCK, FRAME.HOLD]);

/** Which flags a request may have. */
const REQUEST_FLAGS: Readonly<Record<number, number>> = {
	[FRAME.EXEC]: FLAG_MORE,
	[FRAME.SETUP]: FLAG_MORE,
	[FRAME.POWEROFF]: FLAG_RESET,
	[FRAME.HOLD]: FLAG_RELEASE,
};

/** Least and most bytes of payload of the host's frames. */
const HOST_PAYLOAD: Readonly<Record<number, readonly [least: number, most: number]>> = {
	[FRAME.STDIN]: [0, STDIN_WINDOW],
	[FRAME.STDIN_CLOSE]: [0, 0],
	[FRAME.SIGNAL]: [4, 4],
	[FRAME.RESIZE]: [4, 4],
	[FRAME.CREDIT]: [4, 4],
	[FRAME.CLOSE]: [0, 0],
};

/** A frame as it is checked: its header and payload. */
type Seen = Pick<Frame, "type" | "flags" | "payload">;

/** The error for a breach of the protocol. `found` says which. */
export function protocolError(found: string): TsvmmError {
	return new TsvmmError("ERR_AGENT_PROTOCOL", `Cannot understand the guest agent: ${found}`);
}

/** "STDOUT" for 9. */
export function frameName(type: number): string {
	return Object.entries(FRAME).find(([, value]) => value === type)?.[0] ?? `type ${type}`;
}

/** Where a session is, as plain data. */
export interface ExchangeState {
	/** The request's type. */
	readonly kind: number;
	readonly isOpen: boolean;
	readonly isStarted: boolean;
	readonly isStdinGone: boolean;
	readonly isStdinClosed: boolean;
	/** Bytes of stdin without credit. */
	readonly unread: number;
	/** Bytes that the agent may still send; missing when that stream has ended. */
	readonly stdout?: number;
	readonly stderr?: number;
}

export class Exchange {
	readonly #kind: number;
	/** True when the request's list goes on in the next frame. */
	#open = true;
	#started = false;
	/** Nobody reads stdin any more; the host has ended it. */
	#stdinGone = false;
	#stdinClosed = false;
	/** Bytes of stdin that were sent and have no credit yet. */
	#unread = 0;
	/** Bytes that the agent may still send, by CREDIT's flag. Undefined once that stream has ended. */
	readonly #room: (number | undefined)[] = [undefined, OUTPUT_WINDOW, OUTPUT_WINDOW];

	/** Whether `type` begins a session. */
	static begins(type: number): boolean {
		return REQUESTS.has(type);
	}

	/** @param kind the request's type: EXEC, SETUP, REMOVE, PING, CLOCK, POWEROFF or HOLD */
	constructor(kind: number) {
		this.#kind = kind;
	}

	/** That of a session which another host has begun. */
	static from(state: ExchangeState): Exchange {
		const exchange = new Exchange(state.kind);
		exchange.#open = state.isOpen;
		exchange.#started = state.isStarted;
		exchange.#stdinGone = state.isStdinGone;
		exchange.#stdinClosed = state.isStdinClosed;
		exchange.#unread = state.unread;
		exchange.#room[CREDIT_STDOUT] = state.stdout;
		exchange.#room[CREDIT_STDERR] = state.stderr;
		return exchange;
	}

	/** For a host that goes on with the session. */
	get state(): ExchangeState {
		const [, stdout, stderr] = this.#room;
		return {
			kind: this.#kind,
			isOpen: this.#open,
			isStarted: this.#started,
			isStdinGone: this.#stdinGone,
			isStdinClosed: this.#stdinClosed,
			unread: this.#unread,
			...(stdout === undefined ? {} : { stdout }),
			...(stderr === undefined ? {} : { stderr }),
		};
	}

	/**
	 * Checks a frame that the host is about to send.
	 *
	 * @throws TsvmmError ERR_AGENT_PROTOCOL when the host may not send it
	 */
	sends({ type, flags, payload }: Seen): void {
		if (REQUESTS.has(type)) {
			const flag = REQUEST_FLAGS[type] ?? 0;
			if (type !== this.#kind || !this.#open || (flags & ~flag) !== 0) throw unexpected(type, "in its session");
			if (type === FRAME.PING && payload.length > PING_MAX) throw unexpected(type, `of ${payload.length} bytes`);
			if (type === FRAME.CLOCK && payload.length !== 8) throw unexpected(type, `of ${payload.length} bytes`);
			this.#open = (type === FRAME.EXEC || type === FRAME.SETUP) && (flags & FLAG_MORE) !== 0;
			return;
		}
		const [least, most] = HOST_PAYLOAD[type] ?? [1, 0];
		if (payload.length < least || payload.length > most) throw unexpected(type, `of ${payload.length} bytes`);
		if (type !== FRAME.CLOSE && this.#kind !== FRAME.EXEC) throw unexpected(type, "for a request that has no streams");
		if (type === FRAME.STDIN) {
			this.#unread += payload.length;
			if (this.#unread > STDIN_WINDOW) throw unexpected(type, "beyond its window");
		} else if (type === FRAME.STDIN_CLOSE) this.#stdinClosed = true;
		else if (type === FRAME.CREDIT) this.#grant(flags, payload.readUInt32LE(0));
	}

	/**
	 * Checks a frame of the agent.
	 *
	 * @return whether it was the session's last one
	 * @throws TsvmmError ERR_AGENT_PROTOCOL when the agent may not send it
	 */
	arrived(frame: Seen): boolean {
		const { type, flags, payload } = frame;
		const known = type === FRAME.EXIT ? FLAG_OUT_OF_MEMORY : 0;
		if ((flags & ~known) !== 0) throw unexpected(type, `with flags ${flags}`);
		if (this.#started) return this.#arrivedRunning(type, payload);
		if (this.#open && type !== FRAME.FAILED) throw unexpected(type, "before its request was complete");
		switch (type) {
			case FRAME.FAILED:
				if (this.#kind === FRAME.PING) break;
				checkFailure(payload);
				return true;
			case FRAME.STARTED:
				if (this.#kind !== FRAME.EXEC) break;
				if (payload.length !== 4 || payload.readInt32LE(0) <= 0) throw unexpected(type, "without a process number");
				this.#started = true;
				return false;
			case FRAME.DONE:
				if (!DONE_FOR.has(this.#kind)) break;
				if (payload.length !== 0) throw unexpected(type, `of ${payload.length} bytes`);
				return true;
			case FRAME.PONG:
				if (this.#kind !== FRAME.PING) break;
				if (payload.length > PING_MAX) throw unexpected(type, `of ${payload.length} bytes`);
				return true;
		}
		throw unexpected(type, `in answer to ${frameName(this.#kind)}`);
	}

	/** Whether the process runs. */
	get started(): boolean {
		return this.#started;
	}

	/**
	 * Bytes of an output stream for which the agent has no credit again. Undefined once the stream has ended.
	 *
	 * @param stream CREDIT's flag
	 */
	owed(stream: number): number | undefined {
		const room = this.#room[stream];
		return room === undefined ? undefined : OUTPUT_WINDOW - room;
	}

	#arrivedRunning(type: number, payload: Buffer): boolean {
		switch (type) {
			case FRAME.STDOUT:
				this.#output(CREDIT_STDOUT, type, payload.length);
				return false;
			case FRAME.STDERR:
				this.#output(CREDIT_STDERR, type, payload.length);
				return false;
			case FRAME.STDIN_CLOSE:
				if (payload.length !== 0 || this.#stdinGone) throw unexpected(type, "twice");
				this.#stdinGone = true;
				return false;
			case FRAME.CREDIT: {
				const bytes = payload.length === 4 ? payload.readUInt32LE(0) : 0;
				if (bytes === 0 || bytes > this.#unread) throw unexpected(type, `for ${bytes} bytes of ${this.#unread}`);
				this.#unread -= bytes;
				return false;
			}
			case FRAME.EXIT:
				checkStatus(payload);
				return true;
		}
		throw unexpected(type, "for a process that runs");
	}

	#output(stream: number, type: number, bytes: number): void {
		const room = this.#room[stream];
		if (room === undefined) throw unexpected(type, "after its end");
		if (bytes > room) throw unexpected(type, `beyond its window: ${bytes} bytes of ${room}`);
		this.#room[stream] = bytes === 0 ? undefined : room - bytes;
	}

	#grant(stream: number, bytes: number): void {
		if (stream === CREDIT_STDIN || stream > CREDIT_STDERR) throw unexpected(FRAME.CREDIT, `with flags ${stream}`);
		const room = this.#room[stream];
		if (room === undefined) return; /* the stream ended before the credit came */
		if (room + bytes > OUTPUT_WINDOW) throw unexpected(FRAME.CREDIT, `for ${bytes} bytes beyond the window`);
		this.#room[stream] = room + bytes;
	}
}

function unexpected(type: number, how: string): TsvmmError {
	return protocolError(`${frameName(type)} ${how}`);
}

function checkFailure(payload: Buffer): void {
	if (payload.length < 8 || payload.length > 8 + FAILED_TEXT_MAX) {
		throw unexpected(FRAME.FAILED, `of ${payload.length} bytes`);
	}
	const status = payload.readUInt32LE(0);
	if (status < 125 || status > 127) throw unexpected(FRAME.FAILED, `with exit status ${status}`);
}

/** wait(2)'s status of a process that has ended: by exit, or by a signal, perhaps with a core dump. */
function checkStatus(payload: Buffer): void {
	const status = payload.length === 4 ? payload.readUInt32LE(0) : -1;
	if (status < 0 || status > 0xffff || (status & 0x7f) > 64) throw unexpected(FRAME.EXIT, `with status ${status}`);
}
