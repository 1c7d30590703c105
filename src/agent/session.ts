/*
 * One process in the guest, as Node streams. Windows keep both sides bounded: stdin is written as far as the agent has
 * granted; output is granted anew as its reader takes it.
 */
import { Readable, Writable } from "node:stream";
import { connectionLost, type FrameConnection } from "./connection.ts";
import {
	CREDIT_STDERR,
	CREDIT_STDOUT,
	encodeU32,
	FLAG_GROUP,
	FRAME,
	type Frame,
	OUTPUT_WINDOW,
	PAYLOAD_MAX,
	STDIN_WINDOW,
} from "./protocol.ts";

/** How a process ended. */
export type ExitStatus = { code: number } | { signal: number };

/** Output of a session. Its queue is never longer than the window. */
class Output extends Readable {
	readonly #grant: (bytes: number) => void;
	readonly #queue: Buffer[] = [];
	#wanted = false;
	#ended = false;
	#due = 0;

	constructor(grant: (bytes: number) => void) {
		super({ highWaterMark: PAYLOAD_MAX });
		this.#grant = grant;
	}

	override _read(): void {
		this.#wanted = true;
		this.#pass();
	}

	/** Nobody will read on: whatever still comes is granted at once and dropped. */
	override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
		for (const data of this.#queue.splice(0)) this.#consumed(data.length);
		callback(error);
	}

	arrived(data: Buffer): void {
		if (this.destroyed) this.#consumed(data.length);
		else this.#queue.push(data);
		this.#pass();
	}

	ended(): void {
		this.#ended = true;
		this.#pass();
	}

	#pass(): void {
		while (this.#wanted) {
			const data = this.#queue.shift();
			if (data === undefined) break;
			this.#wanted = this.push(data);
			this.#consumed(data.length);
		}
		if (this.#ended && this.#queue.length === 0 && !this.readableEnded) {
			this.#ended = false;
			this.push(null);
		}
	}

	#consumed(bytes: number): void {
		this.#due += bytes;
		if (this.#due < OUTPUT_WINDOW / 4) return;
		this.#grant(this.#due);
		this.#due = 0;
	}
}

/** Input of a session: sends as far as credit and the connection allow. */
class Input extends Writable {
	readonly #connection: FrameConnection;
	readonly #session: number;
	#credit = STDIN_WINDOW;
	#waiting: { data: Buffer; callback: () => void } | undefined;
	#full = false;
	#gone = false;

	constructor(connection: FrameConnection, session: number) {
		super({ highWaterMark: PAYLOAD_MAX });
		this.#connection = connection;
		this.#session = session;
	}

	override _write(chunk: Buffer | string, encoding: BufferEncoding, callback: () => void): void {
		this.#waiting = { data: typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk, callback };
		this.#pass();
	}

	override _final(callback: () => void): void {
		if (!this.#gone) this.#connection.send(FRAME.STDIN_CLOSE, 0, this.#session);
		callback();
	}

	override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
		if (!this.writableFinished && !this.#gone) this.#connection.send(FRAME.STDIN_CLOSE, 0, this.#session);
		this.#waiting = undefined;
		callback(error);
	}

	granted(bytes: number): void {
		this.#credit += bytes;
		this.#pass();
	}

	drained(): void {
		this.#full = false;
		this.#pass();
	}

	/** The process has closed its input or is gone: what is written from now on vanishes, as into a closed pipe. */
	gone(): void {
		this.#gone = true;
		this.#pass();
	}

	#pass(): void {
		while (this.#waiting !== undefined) {
			const { data, callback } = this.#waiting;
			if (this.#gone || data.length === 0) {
				this.#waiting = undefined;
				callback();
				continue;
			}
			if (this.#full || this.#credit === 0) return;
			const length = Math.min(data.length, this.#credit, PAYLOAD_MAX);
			this.#credit -= length;
			this.#full = !this.#connection.send(FRAME.STDIN, 0, this.#session, data.subarray(0, length));
			this.#waiting.data = data.subarray(length);
		}
	}
}

export class Session {
	readonly id: number;
	/** The process's id in the guest. */
	readonly pid: number;
	readonly stdin: Writable;
	readonly stdout: Readable;
	/** Ends at once for a session with a terminal. */
	readonly stderr: Readable;
	/** Settles when the process has ended and all its output has arrived (not: was read). Rejects if the agent is lost. */
	readonly exit: Promise<ExitStatus>;
	readonly #connection: FrameConnection;
	readonly #input: Input;
	readonly #output: Output;
	readonly #error: Output;
	#over = false;
	#settle!: (status: ExitStatus) => void;
	#fail!: (error: Error) => void;

	constructor(connection: FrameConnection, id: number, pid: number) {
		this.id = id;
		this.pid = pid;
		this.#connection = connection;
		this.#input = new Input(connection, id);
		this.#output = new Output((bytes) => this.#grant(CREDIT_STDOUT, bytes));
		this.#error = new Output((bytes) => this.#grant(CREDIT_STDERR, bytes));
		this.stdin = this.#input;
		this.stdout = this.#output;
		this.stderr = this.#error;
		this.exit = new Promise((resolve, reject) => {
			this.#settle = resolve;
			this.#fail = reject;
		});
		this.exit.catch(() => undefined); /* a session that nobody waits for is no unhandled rejection */
	}

	/** Sends a signal by number, to the process or to its whole group. */
	signal(number: number, group = false): void {
		this.#send(FRAME.SIGNAL, group ? FLAG_GROUP : 0, encodeU32(number));
	}

	/** Tells the terminal its new size. */
	resize(columns: number, rows: number): void {
		this.#send(FRAME.RESIZE, 0, encodeU32((columns & 0xffff) | ((rows & 0xffff) << 16)));
	}

	/** Hangs the process and its group up, kills them soon after; `exit` still settles. */
	close(): void {
		this.#send(FRAME.CLOSE, 0);
	}

	/** A frame of this session arrived. @return true when it was the last one */
	receive(frame: Frame): boolean {
		const { payload } = frame;
		switch (frame.type) {
			case FRAME.STDOUT:
			case FRAME.STDERR: {
				const output = frame.type === FRAME.STDOUT ? this.#output : this.#error;
				if (payload.length === 0) output.ended();
				else output.arrived(payload);
				return false;
			}
			case FRAME.STDIN_CLOSE:
				this.#input.gone();
				return false;
			case FRAME.CREDIT:
				if (payload.length === 4) this.#input.granted(payload.readUInt32LE());
				return false;
			case FRAME.EXIT:
				if (payload.length !== 4) return false;
				this.#end();
				this.#settle(decodeWaitStatus(payload.readUInt32LE()));
				return true;
			default:
				return false;
		}
	}

	drained(): void {
		this.#input.drained();
	}

	/** The agent is gone. */
	lost(error: Error | undefined): void {
		if (this.#over) return;
		this.#end();
		this.#fail(connectionLost(error));
	}

	#end(): void {
		this.#over = true;
		this.#input.gone();
		this.#output.ended();
		this.#error.ended();
	}

	#grant(stream: number, bytes: number): void {
		this.#send(FRAME.CREDIT, stream, encodeU32(bytes));
	}

	#send(type: number, flags: number, payload?: Uint8Array): void {
		if (!this.#over) this.#connection.send(type, flags, this.id, payload);
	}
}

/** wait(2)'s status word. */
function decodeWaitStatus(status: number): ExitStatus {
	const signal = status & 0x7f;
	return signal === 0 ? { code: (status >>> 8) & 0xff } : { signal };
}
