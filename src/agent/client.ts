/*
 * The host's side of the guest agent: exec, set-up, clock and power-off, over any Duplex (a vsock connection, the
 * socket of a virtio-serial port, a broker's socket).
 *
 *     const agent = new AgentClient(socket);
 *     await agent.hello();
 *     const session = await agent.exec({ args: ["cat"] });
 *     session.stdin.end("hello");
 *     for await (const chunk of session.stdout) console.log(String(chunk));
 *     console.log(await session.exit); // { code: 0 }
 */
import type { Duplex } from "node:stream";
import { TsvmmError } from "../base/errors.ts";
import { connectionLost, FrameConnection } from "./connection.ts";
import { Exchange, frameName, protocolError } from "./exchange.ts";
import { type ExecSpec, execEntries } from "./exec-spec.ts";
import { type HeldSession, whollyRead } from "./held-session.ts";
import { encodeList, FLAG_MORE, FLAG_RESET, FRAME, type Frame, type Hello, KEEPALIVE_SESSION } from "./protocol.ts";
import { Session } from "./session.ts";

/** The process could not be started: exit status 127 (not found), 126 (not executable) or 125 (anything else). */
export class ExecError extends TsvmmError {
	/** What a shell would exit with: 127, 126 or 125. */
	override readonly exitStatus: number;
	/** The guest's errno number, 0 if none. */
	readonly errno: number;

	/**
	 * @param exitStatus 127, 126 or 125
	 * @param errno the guest's, 0 if none
	 * @param reason the agent's message: what was attempted and what was found
	 */
	constructor(exitStatus: number, errno: number, reason: string) {
		const code = exitStatus === 127 ? "ERR_EXEC_NOT_FOUND" : exitStatus === 126 ? "ERR_EXEC_REFUSED" : "ERR_EXEC";
		super(code, reason.charAt(0).toUpperCase() + reason.slice(1));
		this.exitStatus = exitStatus;
		this.errno = errno;
	}
}

/** A request, and later the process that it started. */
interface Request {
	exchange: Exchange;
	/** Undefined once the request was answered or has timed out. */
	pending: { resolve(frame: Frame): void; reject(error: Error): void } | undefined;
	session: Session | undefined;
}

/** How long the agent may take to answer a request, in ms. */
const ANSWER_TIMEOUT_MS = 60_000;
/** How long the agent may take to copy what an image has into a volume. */
const COPY_TIMEOUT_MS = 30 * 60_000;

/** The largest session number. The next one is KEEPALIVE_SESSION. */
const LAST_SESSION = KEEPALIVE_SESSION - 1;
const NOTHING = Buffer.alloc(0);
/** Control characters, and characters that change the direction of text. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

export class AgentClient {
	readonly #connection: FrameConnection;
	readonly #requests = new Map<number, Request>();
	#next = 1;
	#lost: Error | undefined;
	/** No answer is too late. */
	readonly #patient: boolean;
	/** Resolves when the stream has ended, in order or not. */
	readonly closed: Promise<void>;

	/** @param options.patient answers may take as long as they like, as of a guest that a debugger may stop */
	constructor(stream: Duplex, { patient = false }: { patient?: boolean | undefined } = {}) {
		this.#patient = patient;
		let closed: () => void;
		this.closed = new Promise((resolve) => {
			closed = resolve;
		});
		this.#connection = new FrameConnection(stream, {
			frame: (frame) => this.#receive(frame),
			drained: () => {
				for (const { session } of this.#requests.values()) session?.drained();
			},
			closed: (error) => {
				this.#end(error);
				closed();
			},
		});
	}

	/** Asks the agent who it is. Call it first. FrameConnection.hello has the options. */
	hello(options?: { forget?: boolean; timeoutMs?: number }): Promise<Hello> {
		return this.#connection.hello(this.#patient ? { ...options, timeoutMs: Number.POSITIVE_INFINITY } : options);
	}

	/**
	 * Starts a process.
	 *
	 * @param options.timeoutMs how long the answer may take; 60000 when missing
	 * @throws ExecError when it could not be started
	 */
	async exec(spec: ExecSpec, { timeoutMs = ANSWER_TIMEOUT_MS }: { timeoutMs?: number } = {}): Promise<Session> {
		const started = (frame: Frame) => {
			const { session: id, payload } = frame;
			const session = new Session(id, payload.readUInt32LE(0), (type, flags, data) =>
				this.#send(id, type, flags, data),
			);
			this.#requests.get(id)!.session = session;
			return session;
		};
		return this.#requestList(FRAME.EXEC, execEntries(spec), started, timeoutMs);
	}

	/**
	 * Carries out set-up steps in order (docs/agent.md).
	 *
	 * @param container where to run them: its first SETUP makes it, with its own namespaces; the agent's own when missing
	 * @throws ExecError that names the step that failed; a new container is removed then
	 */
	setup(steps: readonly (readonly [step: string, value: string])[], container?: string): Promise<void> {
		const where = container === undefined ? [] : [["container", container] as const];
		/* Any number of files may have to be copied. */
		const timeoutMs = steps.some(([step]) => step === "fill") ? COPY_TIMEOUT_MS : ANSWER_TIMEOUT_MS;
		return this.#requestList(FRAME.SETUP, [...where, ...steps], () => undefined, timeoutMs);
	}

	/**
	 * Kills a container's processes and removes it. Resolves when all have ended. @throws ExecError when there is none
	 */
	remove(container: string): Promise<void> {
		return this.#requestList(FRAME.REMOVE, [["container", container]], () => undefined);
	}

	/**
	 * Goes on with the process of a session that another host has begun. What that has read of its output is not read again.
	 *
	 * @internal for a broker's first client, before the broker lets sessions go on
	 */
	takeOver({ id, exchange }: HeldSession, pid: number): Session {
		const session = new Session(id, pid, (type, flags, data) => this.#send(id, type, flags, data));
		session.goOn(exchange);
		this.#requests.set(id, { exchange: Exchange.from(whollyRead(exchange)), pending: undefined, session });
		if (this.#lost !== undefined) session.lost(this.#lost);
		return session;
	}

	/** Round trip to the agent in ms. */
	async ping(): Promise<number> {
		const start = performance.now();
		await this.#request(FRAME.PING, [[0, NOTHING]]);
		return performance.now() - start;
	}

	/** Sets the guest's wall clock, to now unless told otherwise. */
	async setClock(epochMs = Date.now()): Promise<void> {
		const payload = Buffer.alloc(8);
		payload.writeBigUInt64LE(BigInt(Math.round(epochMs * 1000)) * 1000n);
		await this.#request(FRAME.CLOCK, [[0, payload]]);
	}

	/** Powers the guest off, or resets it. Resolves when the stream has ended. @throws ExecError if the agent may not */
	async powerOff(reset = false): Promise<void> {
		const refused = this.#request(FRAME.POWEROFF, [[reset ? FLAG_RESET : 0, NOTHING]]);
		await Promise.race([
			this.closed,
			refused.catch((error: unknown) => {
				if (error instanceof ExecError) throw error;
			}),
		]);
	}

	/** Ends the stream. This client loses the sessions that still run. */
	close(): void {
		this.#connection.destroy();
	}

	#requestList<T>(
		type: number,
		entries: readonly (readonly [string, string])[],
		answered: (frame: Frame) => T,
		timeoutMs = ANSWER_TIMEOUT_MS,
	): Promise<T> {
		let payloads: Buffer[];
		try {
			payloads = encodeList(entries);
		} catch (error) {
			return Promise.reject(new ExecError(125, 22, `cannot send to the guest agent: ${(error as Error).message}`));
		}
		const last = payloads.length - 1;
		const parts = payloads.map((payload, i) => [i < last ? FLAG_MORE : 0, payload] as const);
		return this.#request(type, parts, answered, timeoutMs);
	}

	/* `answered` is called as the answer arrives, so that a session exists before its first output. */
	#request<T = void>(
		type: number,
		parts: readonly (readonly [flags: number, payload: Buffer])[],
		answered?: (frame: Frame) => T,
		timeoutMs = ANSWER_TIMEOUT_MS,
	): Promise<T> {
		return new Promise((resolve, reject) => {
			if (this.#lost !== undefined) {
				reject(this.#lost);
				return;
			}
			const id = this.#unusedId();
			const giveUp = () => this.#giveUp(id, type, timeoutMs, reject);
			const timer = this.#patient ? undefined : setTimeout(giveUp, timeoutMs);
			const pending = {
				resolve: (frame: Frame) => {
					clearTimeout(timer);
					resolve(answered?.(frame) as T);
				},
				reject: (error: Error) => {
					clearTimeout(timer);
					reject(error);
				},
			};
			this.#requests.set(id, { exchange: new Exchange(type), pending, session: undefined });
			for (const [flags, payload] of parts) this.#send(id, type, flags, payload);
		});
	}

	/** A late answer is ignored, and a process that it has started is killed. */
	#giveUp(id: number, type: number, timeoutMs: number, reject: (error: Error) => void): void {
		const request = this.#requests.get(id);
		if (request !== undefined) request.pending = undefined;
		if (type === FRAME.EXEC || type === FRAME.SETUP) this.#send(id, FRAME.CLOSE, 0);
		const what = `${frameName(type)} was not answered for ${timeoutMs / 1000} s`;
		reject(new TsvmmError("ERR_AGENT_TIMEOUT", `Cannot wait for the guest agent any longer: ${what}`));
	}

	#unusedId(): number {
		while (this.#requests.has(this.#next)) this.#next = (this.#next % LAST_SESSION) + 1;
		const id = this.#next;
		this.#next = (id % LAST_SESSION) + 1;
		return id;
	}

	#send(id: number, type: number, flags: number, payload: Buffer = NOTHING): boolean {
		const request = this.#requests.get(id);
		if (request === undefined) return true; /* its process has ended */
		request.exchange.sends({ type, flags, payload });
		return this.#connection.send(type, flags, id, payload);
	}

	#receive(frame: Frame): void {
		const request = this.#requests.get(frame.session);
		if (request === undefined)
			throw protocolError(`${frameName(frame.type)} for session ${frame.session}, which is none`);
		if (request.exchange.arrived(frame)) this.#requests.delete(frame.session);
		const { pending, session } = request;
		if (session !== undefined) {
			session.receive(frame);
			return;
		}
		request.pending = undefined;
		if (frame.type === FRAME.FAILED) pending?.reject(failure(frame.payload));
		else pending?.resolve(frame);
	}

	#end(error: Error | undefined): void {
		this.#lost = connectionLost(error);
		const requests = [...this.#requests.values()];
		this.#requests.clear();
		for (const { pending, session } of requests) {
			pending?.reject(this.#lost);
			session?.lost(error);
		}
	}
}

/** The guest's text is printed on a terminal. */
function failure(payload: Buffer): ExecError {
	const text = payload.toString("utf8", 8).replace(UNPRINTABLE, "?");
	return new ExecError(payload.readUInt32LE(0), payload.readUInt32LE(4), text);
}
