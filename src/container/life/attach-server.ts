/*
 * The streams of a container's process for those who attach: the agent's side of its own protocol (docs/agent.md) on a
 * unix socket, with one process on offer. A client's EXEC attaches; `tty=` is its terminal's size. Any number may be
 * attached; each sees what comes from then on. A client that does not read makes the process wait, as a pipe would, until
 * it reads or goes.
 *
 *     process's stdout -> log and each client, each within its window -> the next chunk
 */
import { createServer, type Server, type Socket } from "node:net";
import { ExecError } from "../../agent/client.ts";
import { Exchange } from "../../agent/exchange.ts";
import {
	CREDIT_STDERR,
	CREDIT_STDIN,
	CREDIT_STDOUT,
	decodeHello,
	encodeFrame,
	encodeHelloAnswer,
	encodeU32,
	FLAG_GROUP,
	FLAG_LEAVE,
	FLAG_MORE,
	FRAME,
	type Frame,
	OUTPUT_WINDOW,
	PAYLOAD_MAX,
	PROTOCOL_MAX,
} from "../../agent/protocol.ts";
import type { ExitStatus } from "../../agent/session.ts";
import { FrameSplitter } from "../../agent/splitter.ts";
import { TsvmmError } from "../../base/errors.ts";
import type { OutputStream } from "./log-file.ts";

/** The process that clients attach to. */
export interface AttachedProcess {
	/** Resolves when the bytes are taken. */
	write(bytes: Buffer): Promise<void>;
	/** No more input. */
	endInput(): void;
	signal(number: number, group: boolean): void;
	resize(columns: number, rows: number): void;
}

export interface AttachOptions {
	/** Whether the process reads what clients write. */
	openStdin: boolean;
	/** Whether its input ends with the first client's. */
	stdinOnce: boolean;
}

/** What an attached client is told of the process's number; there is no use for it. */
const PID = 1;

export class AttachServer {
	readonly #server: Server;
	readonly #options: AttachOptions;
	readonly #sockets = new Set<Socket>();
	/** Those that have attached. */
	readonly #clients = new Set<AttachedClient>();
	#process: AttachedProcess | undefined;
	#size: { columns: number; rows: number } | undefined;
	#attached!: () => void;
	/** Resolves when the first client has attached. */
	readonly firstClient: Promise<void>;

	private constructor(options: AttachOptions) {
		this.#options = options;
		this.firstClient = new Promise((resolve) => {
			this.#attached = resolve;
		});
		/* Half-open: a socket that is closed with input unread loses output, too. */
		this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
	}

	/** Listens at `path`. @throws what listen(2) says */
	static async open(path: string, options: AttachOptions): Promise<AttachServer> {
		const server = new AttachServer(options);
		await new Promise<void>((resolve, reject) => {
			server.#server.once("error", reject);
			server.#server.listen(path, () => resolve());
		});
		return server;
	}

	/** The terminal of the client that attached last; undefined when none has one. */
	get terminalSize(): { columns: number; rows: number } | undefined {
		return this.#size;
	}

	/** The process runs: its clients' input goes to it from now on. */
	started(process: AttachedProcess): void {
		this.#process = process;
		for (const client of this.#clients) client.started();
	}

	/** Output for all clients. Resolves when each has taken it or gone. */
	async write(stream: OutputStream, bytes: Buffer): Promise<void> {
		await Promise.all([...this.#clients].map((client) => client.write(stream, bytes)));
	}

	/** The process has ended, and its output is written: all clients are told and let go. */
	async ended(exit: ExitStatus): Promise<void> {
		this.#process = undefined;
		await Promise.all([...this.#clients].map((client) => client.ended(exit)));
		this.#clients.clear();
	}

	/** The process could not be started, or the machine has ended before it. */
	async failed(error: unknown): Promise<void> {
		this.#process = undefined;
		await Promise.all([...this.#clients].map((client) => client.failed(error)));
		this.#clients.clear();
	}

	/** Cuts all clients off. */
	dropClients(): void {
		for (const client of this.#clients) client.drop();
	}

	async close(): Promise<void> {
		const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
		for (const socket of this.#sockets) socket.destroy();
		await closed;
	}

	#accept(socket: Socket): void {
		this.#sockets.add(socket);
		socket.once("close", () => this.#sockets.delete(socket));
		const client: AttachedClient = new AttachedClient(socket, {
			openStdin: this.#options.openStdin,
			attached: (size) => {
				if (size !== undefined) this.#resize(size);
				this.#clients.add(client);
				if (this.#process !== undefined) client.started();
				this.#attached();
			},
			stdin: async (bytes) => this.#process?.write(bytes),
			stdinEnded: () => {
				if (this.#options.stdinOnce) this.#process?.endInput();
			},
			signal: (number, group) => this.#process?.signal(number, group),
			resize: (size) => this.#resize(size),
			gone: () => this.#clients.delete(client),
		});
	}

	#resize(size: { columns: number; rows: number }): void {
		this.#size = size;
		this.#process?.resize(size.columns, size.rows);
	}
}

interface ClientEvents {
	openStdin: boolean;
	attached(size: { columns: number; rows: number } | undefined): void;
	stdin(bytes: Buffer): Promise<void>;
	stdinEnded(): void;
	signal(number: number, group: boolean): void;
	resize(size: { columns: number; rows: number }): void;
	gone(): void;
}

class AttachedClient {
	readonly #socket: Socket;
	readonly #events: ClientEvents;
	readonly #splitter = new FrameSplitter();
	/** What each side may send; it throws for what it may not. */
	readonly #exchange = new Exchange(FRAME.EXEC);
	/** Bytes that the client takes before it grants more. */
	readonly #room = { stdout: OUTPUT_WINDOW, stderr: OUTPUT_WINDOW };
	#session = 0;
	#list = Buffer.alloc(0);
	#running = false;
	#stdinOver = false;
	/** Input that came before the process: at most its window. */
	#input: Promise<void> = Promise.resolve();
	#begin!: () => void;
	readonly #begun: Promise<void>;
	/** The last frame was sent. */
	#over = false;
	#closed = false;
	#wake: (() => void)[] = [];

	constructor(socket: Socket, events: ClientEvents) {
		this.#socket = socket;
		this.#events = events;
		this.#begun = new Promise((resolve) => {
			this.#begin = resolve;
		});
		socket.on("data", (chunk: Buffer) => {
			try {
				for (const frame of this.#splitter.push(chunk)) this.#receive(frame);
			} catch {
				this.drop();
			}
		});
		socket.on("error", () => undefined);
		socket.on("end", () => socket.end());
		socket.on("close", () => this.#gone());
	}

	started(): void {
		if (this.#session === 0 || this.#running) return;
		this.#running = true;
		this.#send(FRAME.STARTED, encodeU32(PID));
		if (!this.#events.openStdin) this.#send(FRAME.STDIN_CLOSE);
		this.#begin();
	}

	async write(stream: OutputStream, bytes: Buffer): Promise<void> {
		if (!this.#running) return;
		for (let at = 0; at < bytes.length && !this.#closed; ) {
			const length = Math.min(bytes.length - at, this.#room[stream], PAYLOAD_MAX);
			if (length === 0) {
				await new Promise<void>((resolve) => this.#wake.push(resolve));
				continue;
			}
			this.#room[stream] -= length;
			this.#send(stream === "stdout" ? FRAME.STDOUT : FRAME.STDERR, bytes.subarray(at, at + length));
			at += length;
		}
	}

	async ended(exit: ExitStatus): Promise<void> {
		this.started();
		for (const type of [FRAME.STDOUT, FRAME.STDERR]) this.#send(type);
		this.#send(FRAME.EXIT, encodeU32("code" in exit ? exit.code << 8 : exit.signal));
		await this.#end();
	}

	/** Before the process ran the request is answered; after that the connection is cut, and state.json says why. */
	async failed(error: unknown): Promise<void> {
		if (!this.#running) {
			const status = error instanceof TsvmmError ? error.exitStatus : 125;
			const errno = error instanceof ExecError ? error.errno : 0;
			const head = Buffer.alloc(8);
			head.writeUInt32LE(status >= 125 && status <= 127 ? status : 125, 0);
			head.writeUInt32LE(errno, 4);
			const text = Buffer.from(error instanceof Error ? error.message : String(error)).subarray(0, 1000);
			this.#send(FRAME.FAILED, Buffer.concat([head, text]));
		}
		await this.#end();
	}

	drop(): void {
		this.#socket.destroy();
	}

	/** Resolves when the client has taken all that was sent, and has gone. */
	async #end(): Promise<void> {
		if (this.#closed) return;
		const closed = new Promise<void>((resolve) => this.#socket.once("close", () => resolve()));
		this.#over = true;
		this.#socket.end();
		await closed;
	}

	#receive(frame: Frame): void {
		if (this.#over) return; /* late, for a process that has ended */
		const { type, flags, session, payload } = frame;
		if (type === FRAME.HELLO) {
			const asked = decodeHello(payload);
			if (asked === undefined) throw new Error("a HELLO that is none");
			const hello = { version: PROTOCOL_MAX, pid: process.pid, startMs: 0, nowMs: process.uptime() * 1000 };
			this.#socket.write(encodeHelloAnswer(asked.nonce, hello));
			return;
		}
		this.#exchange.sends(frame);
		if (this.#session === 0 ? type !== FRAME.EXEC : session !== this.#session)
			throw new Error("a session that is none");
		switch (type) {
			case FRAME.EXEC:
				this.#list = Buffer.concat([this.#list, payload]);
				if ((flags & FLAG_MORE) !== 0) return;
				this.#session = session;
				this.#events.attached(terminalSize(this.#list.toString()));
				break;
			case FRAME.STDIN:
				this.#take(payload);
				break;
			case FRAME.STDIN_CLOSE:
				this.#endInput();
				break;
			case FRAME.SIGNAL:
				this.#events.signal(payload.readUInt32LE(0) & 127, (flags & FLAG_GROUP) !== 0);
				break;
			case FRAME.RESIZE:
				this.#events.resize({ columns: payload.readUInt16LE(0), rows: payload.readUInt16LE(2) });
				break;
			case FRAME.CREDIT:
				if (flags === CREDIT_STDOUT) this.#room.stdout += payload.readUInt32LE(0);
				if (flags === CREDIT_STDERR) this.#room.stderr += payload.readUInt32LE(0);
				this.#wakeAll();
				break;
			case FRAME.CLOSE:
				/* One that leaves does not end the input. */
				this.#stdinOver ||= (flags & FLAG_LEAVE) !== 0;
				if ((flags & FLAG_LEAVE) !== 0 && this.#running) {
					this.#events.gone();
					void this.ended({ code: 0 });
				} else this.drop();
		}
	}

	/** Input in order, each chunk once the one before is taken; the client's window bounds what waits. */
	#take(bytes: Buffer): void {
		if (!this.#events.openStdin || bytes.length === 0) return;
		this.#input = this.#input
			.then(() => this.#begun)
			.then(() => this.#events.stdin(bytes))
			.then(() => this.#send(FRAME.CREDIT, encodeU32(bytes.length), CREDIT_STDIN))
			.catch(() => undefined);
	}

	#endInput(): void {
		if (this.#stdinOver) return;
		this.#stdinOver = true;
		this.#input = this.#input.then(() => this.#begun).then(() => this.#events.stdinEnded());
	}

	#send(type: number, payload: Buffer = Buffer.alloc(0), flags = 0): void {
		if (this.#closed || this.#over) return;
		/* Counts what the client was sent, and throws for a defect of ours. */
		this.#exchange.arrived({ type, flags, payload });
		this.#socket.write(encodeFrame(type, flags, this.#session, payload));
	}

	#gone(): void {
		this.#closed = true;
		this.#wakeAll();
		this.#endInput();
		this.#events.gone();
	}

	#wakeAll(): void {
		for (const wake of this.#wake.splice(0)) wake();
	}
}

/** Of "tty=80x24" in an EXEC's list. */
function terminalSize(list: string): { columns: number; rows: number } | undefined {
	const match = /(?:^|\0)tty=(\d{1,5})x(\d{1,5})(?:\0|$)/.exec(list);
	return match === null ? undefined : { columns: Number(match[1]), rows: Number(match[2]) };
}
