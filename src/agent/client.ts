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
import { encodeList, FLAG_MORE, FLAG_RESET, FRAME, type Frame, type Hello, OUTPUT_WINDOW } from "./protocol.ts";
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
	/** chroot there first. */
	root?: string;
	/** A terminal of this size instead of pipes. */
	tty?: { columns: number; rows: number };
	/** "null": /dev/null instead of a pipe. */
	stdin?: "pipe" | "null";
}

/** The process could not be started: exit status 127 (not found), 126 (not executable) or 125 (anything else). */
export class ExecError extends TsvmmError {
	override readonly exitStatus: number;
	/** The guest's errno number, 0 if none. */
	readonly errno: number;

	constructor(exitStatus: number, errno: number, reason: string) {
		const code = exitStatus === 127 ? "ERR_EXEC_NOT_FOUND" : exitStatus === 126 ? "ERR_EXEC_REFUSED" : "ERR_EXEC";
		super(code, reason.charAt(0).toUpperCase() + reason.slice(1));
		this.exitStatus = exitStatus;
		this.errno = errno;
	}
}

interface Pending {
	resolve(frame: Frame): void;
	reject(error: Error): void;
}

export class AgentClient {
	readonly #connection: FrameConnection;
	readonly #pending = new Map<number, Pending>();
	readonly #sessions = new Map<number, Session>();
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
				for (const session of this.#sessions.values()) session.drained();
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
		if (spec.root !== undefined) entries.push(["root", spec.root]);
		if (spec.tty !== undefined) entries.push(["tty", `${spec.tty.columns}x${spec.tty.rows}`]);
		if (spec.stdin === "null") entries.push(["stdin", "null"]);
		entries.push(["window", String(OUTPUT_WINDOW)]);
		return this.#requestList(FRAME.EXEC, entries, (frame) => {
			const session = new Session(this.#connection, frame.session, frame.payload.readUInt32LE(0));
			this.#sessions.set(session.id, session);
			return session;
		});
	}

	/** Carries out set-up steps in order (docs/agent.md). @throws ExecError naming the step that failed */
	setup(steps: readonly (readonly [step: string, value: string])[]): Promise<void> {
		return this.#requestList(FRAME.SETUP, steps, () => undefined);
	}

	/** Round trip to the agent in ms. */
	async ping(): Promise<number> {
		const start = performance.now();
		await this.#request((id) => this.#connection.send(FRAME.PING, 0, id));
		return performance.now() - start;
	}

	/** Sets the guest's wall clock, to now unless told otherwise. */
	async setClock(epochMs = Date.now()): Promise<void> {
		const payload = Buffer.alloc(8);
		payload.writeBigUInt64LE(BigInt(Math.round(epochMs * 1000)) * 1000n);
		await this.#request((id) => this.#connection.send(FRAME.CLOCK, 0, id, payload));
	}

	/** Powers the guest off, or resets it. Resolves when the stream has ended. @throws ExecError if the agent may not */
	async powerOff(reset = false): Promise<void> {
		const refused = this.#request((id) => this.#connection.send(FRAME.POWEROFF, reset ? FLAG_RESET : 0, id));
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
		return this.#request((id) => {
			payloads.forEach((payload, i) => {
				this.#connection.send(type, i < payloads.length - 1 ? FLAG_MORE : 0, id, payload);
			});
		}, answered);
	}

	/* `answered` runs inside the receipt of the answer, so that a session exists before its first output arrives. */
	#request<T = void>(send: (id: number) => void, answered?: (frame: Frame) => T): Promise<T> {
		return new Promise((resolve, reject) => {
			if (this.#lost !== undefined) {
				reject(this.#lost);
				return;
			}
			const id = this.#next++;
			this.#pending.set(id, { resolve: (frame) => resolve(answered?.(frame) as T), reject });
			send(id);
		});
	}

	#receive(frame: Frame): void {
		const session = this.#sessions.get(frame.session);
		if (session !== undefined) {
			if (session.receive(frame)) this.#sessions.delete(frame.session);
			return;
		}
		const pending = this.#pending.get(frame.session);
		if (pending === undefined) return; /* of a session that an earlier host left behind */
		this.#pending.delete(frame.session);
		const { payload } = frame;
		if (frame.type === FRAME.FAILED && payload.length >= 8) {
			pending.reject(new ExecError(payload.readUInt32LE(0), payload.readUInt32LE(4), payload.toString("utf8", 8)));
		} else if (frame.type === FRAME.STARTED && payload.length !== 4) {
			pending.reject(new ExecError(125, 0, "cannot understand the guest agent: STARTED without a pid"));
		} else {
			pending.resolve(frame);
		}
	}

	#end(error: Error | undefined): void {
		this.#lost = connectionLost(error);
		for (const pending of this.#pending.values()) pending.reject(this.#lost);
		for (const session of this.#sessions.values()) session.lost(error);
		this.#pending.clear();
		this.#sessions.clear();
	}
}
