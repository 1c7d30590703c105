/*
 * One process in the guest, as Node streams. Windows bound both sides. Stdin is sent as far as the agent's credit
 * allows. Output that was read gives the agent new credit.
 */
import { Readable, Writable } from "node:stream";
import { signalStatus } from "../base/signals.ts";
import { connectionLost } from "./connection.ts";
import type { ExchangeState } from "./exchange.ts";
import {
	CREDIT_STDERR,
	CREDIT_STDOUT,
	encodeU32,
	FLAG_GROUP,
	FLAG_LEAVE,
	FLAG_OUT_OF_MEMORY,
	FRAME,
	type Frame,
	OUTPUT_WINDOW,
	PAYLOAD_MAX,
	STDIN_WINDOW,
} from "./protocol.ts";

/** How a process ended. */
export type ExitStatus = { code: number } | { signal: number };

/** A shell's number for the end of a process: 128 + n for signal n. */
export function exitStatus(exit: ExitStatus): number {
	return "code" in exit ? exit.code : signalStatus(exit.signal);
}

/** Sends a frame of a session. @return false when the stream is full */
export type SendFrame = (type: number, flags: number, payload?: Buffer) => boolean;

/** Smaller chunks are copied together, so that a guest that sends single bytes costs no more memory. */
const SMALL_BYTES = 4096;
const BLOCK_BYTES = 16384;

/** Chunks in order. */
class ChunkQueue {
	readonly #chunks: Buffer[] = [];
	/** Small chunks are copied to here. While it is open, its bytes #from to #used are the last chunk of the queue. */
	#block = Buffer.alloc(0);
	#from = 0;
	#used = 0;
	#open = false;

	push(data: Buffer): void {
		if (data.length >= SMALL_BYTES) {
			this.#open = false;
			this.#chunks.push(data);
			return;
		}
		if (this.#block.length - this.#used < data.length) {
			this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
			this.#used = 0;
			this.#open = false;
		}
		if (this.#open) this.#chunks.pop();
		else this.#from = this.#used;
		this.#open = true;
		this.#used += data.copy(this.#block, this.#used);
		this.#chunks.push(this.#block.subarray(this.#from, this.#used));
	}

	shift(): Buffer | undefined {
		if (this.#chunks.length <= 1) this.#open = false;
		return this.#chunks.shift();
	}

	get empty(): boolean {
		return this.#chunks.length === 0;
	}
}

/** Output of a session. Its queue is never longer than the window. */
class Output extends Readable {
	readonly #grant: (bytes: number) => void;
	readonly #queue = new ChunkQueue();
	#wanted = false;
	/** The end has arrived but was not passed on yet. */
	#over = false;
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

	/** Nobody reads any more. Later output gets credit at once and is dropped. */
	override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
		for (let data = this.#queue.shift(); data !== undefined; data = this.#queue.shift()) this.#consumed(data.length);
		callback(error);
	}

	arrived(data: Buffer): void {
		if (this.destroyed) this.#consumed(data.length);
		else this.#queue.push(data);
		this.#pass();
	}

	ended(): void {
		if (this.#over) return;
		this.#over = true;
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
		if (this.#ended && this.#queue.empty && !this.destroyed) {
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
	readonly #send: SendFrame;
	#credit = STDIN_WINDOW;
	#waiting: { data: Buffer; callback: () => void } | undefined;
	#full = false;
	#gone = false;

	constructor(send: SendFrame) {
		super({ highWaterMark: PAYLOAD_MAX });
		this.#send = send;
	}

	override _write(chunk: Buffer | string, encoding: BufferEncoding, callback: () => void): void {
		this.#waiting = { data: typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk, callback };
		this.#pass();
	}

	override _final(callback: () => void): void {
		if (!this.#gone) this.#send(FRAME.STDIN_CLOSE, 0);
		callback();
	}

	override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
		if (!this.writableFinished && !this.#gone) this.#send(FRAME.STDIN_CLOSE, 0);
		this.#waiting = undefined;
		callback(error);
	}

	/** So many bytes are on their way already. */
	taken(bytes: number): void {
		this.#credit -= bytes;
	}

	granted(bytes: number): void {
		this.#credit += bytes;
		this.#pass();
	}

	drained(): void {
		this.#full = false;
		this.#pass();
	}

	/** The process has closed its input or has ended. Later writes are dropped. */
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
			this.#full = !this.#send(FRAME.STDIN, 0, data.subarray(0, length));
			this.#waiting.data = data.subarray(length);
		}
	}
}

/**
 * A process in the guest: its standard streams, its end and its signals. Its memory on the host is freed when it has
 * ended and its output was read or destroyed.
 */
export class Session {
	/** @internal its number on the connection to the agent */
	readonly id: number;
	/** The process's id in the guest. */
	readonly pid: number;
	/** Its input. Bytes that nobody reads are dropped. */
	readonly stdin: Writable;
	/** Its output. At most 256 KiB wait here for a reader. The rest waits in the guest. */
	readonly stdout: Readable;
	/** Its standard error, bounded as `stdout` is. Ends at once for a session with a terminal. */
	readonly stderr: Readable;
	/** Resolves when the process has ended and all its output has arrived, read or not. Rejects if the agent is lost. */
	readonly exit: Promise<ExitStatus>;
	readonly #sendFrame: SendFrame;
	readonly #input: Input;
	readonly #output: Output;
	readonly #error: Output;
	#over = false;
	#outOfMemory = false;
	#settle!: (status: ExitStatus) => void;
	#fail!: (error: Error) => void;

	/** @internal made by AgentClient.exec */
	constructor(id: number, pid: number, send: SendFrame) {
		this.id = id;
		this.pid = pid;
		this.#sendFrame = send;
		this.#input = new Input(send);
		this.#output = new Output((bytes) => this.#grant(CREDIT_STDOUT, bytes));
		this.#error = new Output((bytes) => this.#grant(CREDIT_STDERR, bytes));
		this.stdin = this.#input;
		this.stdout = this.#output;
		this.stderr = this.#error;
		this.exit = new Promise((resolve, reject) => {
			this.#settle = resolve;
			this.#fail = reject;
		});
		this.exit.catch(() => undefined); /* it need not be awaited */
	}

	/**
	 * Whether the kernel has killed a process of the container for want of memory. A container's first process knows, when
	 * it has ended.
	 */
	get outOfMemory(): boolean {
		return this.#outOfMemory;
	}

	/** Sends a signal by number, to the process or to its whole group. */
	signal(number: number, group = false): void {
		this.#send(FRAME.SIGNAL, group ? FLAG_GROUP : 0, encodeU32(number));
	}

	/** Tells the terminal its new size. */
	resize(columns: number, rows: number): void {
		this.#send(FRAME.RESIZE, 0, encodeU32((columns & 0xffff) | ((rows & 0xffff) << 16)));
	}

	/** Sends the process and its group SIGHUP, and SIGKILL soon after. `exit` still resolves. */
	close(): void {
		this.#send(FRAME.CLOSE, 0);
	}

	/**
	 * Leaves the process alone: it goes on, and nobody reads its output. `exit` resolves with status 0.
	 *
	 * @internal for sessions of a broker's
	 */
	leave(): void {
		this.#send(FRAME.CLOSE, FLAG_LEAVE);
	}

	/** @internal Another host has begun the session, and has read all output so far. */
	goOn({ unread, isStdinGone, isStdinClosed, stdout, stderr }: ExchangeState): void {
		this.#input.taken(unread);
		if (isStdinGone || isStdinClosed) this.#input.gone();
		if (stdout === undefined) this.#output.ended();
		if (stderr === undefined) this.#error.ended();
	}

	/** @internal A frame of this session has arrived. Its Exchange has checked it. */
	receive({ type, flags, payload }: Frame): void {
		switch (type) {
			case FRAME.STDOUT:
			case FRAME.STDERR: {
				const output = type === FRAME.STDOUT ? this.#output : this.#error;
				if (payload.length === 0) output.ended();
				else output.arrived(payload);
				break;
			}
			case FRAME.STDIN_CLOSE:
				this.#input.gone();
				break;
			case FRAME.CREDIT:
				this.#input.granted(payload.readUInt32LE());
				break;
			case FRAME.EXIT:
				this.#outOfMemory = (flags & FLAG_OUT_OF_MEMORY) !== 0;
				this.#end();
				this.#settle(decodeWaitStatus(payload.readUInt32LE()));
		}
	}

	/** @internal The connection takes frames again. */
	drained(): void {
		this.#input.drained();
	}

	/** @internal The agent is lost. */
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

	#send(type: number, flags: number, payload?: Buffer): void {
		if (!this.#over) this.#sendFrame(type, flags, payload);
	}
}

/** How a process ended, from wait(2)'s status word. */
export function decodeWaitStatus(status: number): ExitStatus {
	const signal = status & 0x7f;
	return signal === 0 ? { code: (status >>> 8) & 0xff } : { signal };
}
