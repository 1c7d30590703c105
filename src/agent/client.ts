/*
 * The host's side of the guest agent: exec, set-up, clock and power-off over any Duplex (a vsock connection, a
 * virtio-serial port's socket, a broker's client socket).
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
import { encodeList, FLAG_MORE, FLAG_RESET, FRAME, type Frame, type Hello, KEEPALIVE_SESSION } from "./protocol.ts";
import { Session } from "./session.ts";

/** A process to run in the guest. */
export interface ExecSpec {
	/** argv; args[0] is looked up in the PATH of `env` unless it has a slash. */
	args: readonly string[];
	/** The whole environment; HOME is added from the passwd file if missing. */
	env?: Readonly<Record<string, string>> | readonly string[];
	/** Default "/". Created if missing unless `createCwd` is false. */
	cwd?: string;
	createCwd?: boolean;
	/** "name", "uid", "name:group", "uid:gid"; the agent's own user (root) when missing. */
	user?: string;
	/** The container whose namespaces and root it gets; the agent's own when missing. */
	container?: string;
	/** It becomes the container's process 1, once; the container ends with it, also when it cannot be started. */
	init?: boolean;
	/** chroot there first. */
	root?: string;
	/** A terminal of this size instead of pipes. */
	tty?: { columns: number; rows: number };
	/** "null": /dev/null instead of a pipe. */
	stdin?: "pipe" | "null";
}

/** The process could not be started: exit status 127 (not found), 126 (not executable) or 125 (anything else). */
export class ExecError extends TsvmmError {
	/** What a shell would exit with: 127, 126 or 125. */
	override readonly exitStatus: number;
	/** The guest's errno number, 0 if none. */
	readonly errno: number;

	/**
	 * @param exitStatus 127, 126 or 125
	 * @param errno the guest's, 0 if none
	 * @param reason the agent's sentence: what was attempted and what was found
	 */
	constructor(exitStatus: number, errno: number, reason: string) {
		const code = exitStatus === 127 ? "ERR_EXEC_NOT_FOUND" : exitStatus === 126 ? "ERR_EXEC_REFUSED" : "ERR_EXEC";
		super(code, reason.charAt(0).toUpperCase() + reason.slice(1));
		this.exitStatus = exitStatus;
		this.errno = errno;
	}
}

/** A request on its way, and then the process that it started. */
interface Request {
	exchange: Exchange;
	/** Gone once the request was answered, or its time was over. */
	pending: { resolve(frame: Frame): void; reject(error: Error): void } | undefined;
	session: Session | undefined;
}

/** How long the agent may take to answer a request, in ms. */
const ANSWER_TIMEOUT_MS = 60_000;

/** Session numbers are 1 to this; the next one is KEEPALIVE_SESSION. */
const LAST_SESSION = KEEPALIVE_SESSION - 1;
const NOTHING = Buffer.alloc(0);
/** Control characters, and those that turn the direction of text. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

export class AgentClient {
	readonly #connection: FrameConnection;
	readonly #requests = new Map<number, Request>();
	#next = 1;
	#lost: Error | undefined;
	/** Resolves when the stream has ended, however it did. */
	readonly closed: Promise<void>;

	constructor(stream: Duplex) {
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

	/** Who answers; the first thing to do. See FrameConnection.hello for the options. */
	hello(options?: { forget?: boolean; timeoutMs?: number }): Promise<Hello> {
		return this.#connection.hello(options);
	}

	/**
	 * Starts a process.
	 *
	 * @throws ExecError when it could not be started
	 */
	async exec(spec: ExecSpec): Promise<Session> {
		const entries: [string, string][] = spec.args.map((arg) => ["arg", arg]);
		const env = spec.env ?? {};
		const strings = Array.isArray(env)
			? (env as string[])
			: Object.entries(env).map(([key, value]) => `${key}=${value}`);
		for (const string of strings) entries.push(["env", string]);
		if (spec.cwd !== undefined) entries.push(["cwd", spec.cwd]);
		if (spec.createCwd === false) entries.push(["mkcwd", "0"]);
		if (spec.user !== undefined) entries.push(["user", spec.user]);
		if (spec.container !== undefined) entries.push(["container", spec.container]);
		if (spec.init === true) entries.push(["init", "1"]);
		if (spec.root !== undefined) entries.push(["root", spec.root]);
		if (spec.tty !== undefined) entries.push(["tty", `${spec.tty.columns}x${spec.tty.rows}`]);
		if (spec.stdin === "null") entries.push(["stdin", "null"]);
		return this.#requestList(FRAME.EXEC, entries, (frame) => {
			const { session: id, payload } = frame;
			const session = new Session(id, payload.readUInt32LE(0), (type, flags, data) =>
				this.#send(id, type, flags, data),
			);
			this.#requests.get(id)!.session = session;
			return session;
		});
	}

	/**
	 * Carries out set-up steps in order (docs/agent.md).
	 *
	 * @param container where: made by its first SETUP, in namespaces of its own; the agent's own when missing
	 * @throws ExecError naming the step that failed; a container that was to be made is gone then
	 */
	setup(steps: readonly (readonly [step: string, value: string])[], container?: string): Promise<void> {
		const where = container === undefined ? [] : [["container", container] as const];
		return this.#requestList(FRAME.SETUP, [...where, ...steps], () => undefined);
	}

	/** Kills a container's processes and forgets it. Resolves when all have ended. @throws ExecError when there is none */
	remove(container: string): Promise<void> {
		return this.#requestList(FRAME.REMOVE, [["container", container]], () => undefined);
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

	/** Ends the stream; sessions that still run are lost to this client. */
	close(): void {
		this.#connection.destroy();
	}

	#requestList<T>(
		type: number,
		entries: readonly (readonly [string, string])[],
		answered: (frame: Frame) => T,
	): Promise<T> {
		let payloads: Buffer[];
		try {
			payloads = encodeList(entries);
		} catch (error) {
			return Promise.reject(new ExecError(125, 22, `cannot send to the guest agent: ${(error as Error).message}`));
		}
		const last = payloads.length - 1;
		const parts = payloads.map((payload, i) => [i < last ? FLAG_MORE : 0, payload] as const);
		return this.#request(type, parts, answered);
	}

	/* `answered` runs inside the receipt of the answer, so that a session exists before its first output arrives. */
	#request<T = void>(
		type: number,
		parts: readonly (readonly [flags: number, payload: Buffer])[],
		answered?: (frame: Frame) => T,
	): Promise<T> {
		return new Promise((resolve, reject) => {
			if (this.#lost !== undefined) {
				reject(this.#lost);
				return;
			}
			const id = this.#unusedId();
			const timer = setTimeout(() => this.#giveUp(id, type, reject), ANSWER_TIMEOUT_MS);
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

	/** The answer, should it still come, finds nobody; what it started is ended. */
	#giveUp(id: number, type: number, reject: (error: Error) => void): void {
		const request = this.#requests.get(id);
		if (request !== undefined) request.pending = undefined;
		if (type === FRAME.EXEC || type === FRAME.SETUP) this.#send(id, FRAME.CLOSE, 0);
		const what = `${frameName(type)} was not answered for ${ANSWER_TIMEOUT_MS / 1000} s`;
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

/** The guest's words end up on a terminal. */
function failure(payload: Buffer): ExecError {
	const text = payload.toString("utf8", 8).replace(UNPRINTABLE, "?");
	return new ExecError(payload.readUInt32LE(0), payload.readUInt32LE(4), text);
}
