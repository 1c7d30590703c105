/*
 * Many clients on one agent. Each client speaks the agent's own protocol. The broker translates the session ids: a
 * client's id becomes an upstream id, and back. When a client goes away, the broker hangs its sessions up and kills
 * them. Both sides are checked (exchange.ts): a client that breaks the protocol is dropped, and an agent that breaks it
 * loses the stream, which ends every client. So the sessions' windows bound the memory.
 */
import type { Duplex } from "node:stream";
import { TsvmmError } from "../base/errors.ts";
import { connectionLost, FrameConnection } from "./connection.ts";
import { Exchange, frameName, protocolError } from "./exchange.ts";
import type { HeldSession } from "./held-session.ts";
import {
	CREDIT_STDERR,
	CREDIT_STDOUT,
	decodeHello,
	encodeFrame,
	encodeHelloAnswer,
	encodeU32,
	FLAG_LEAVE,
	FLAG_RELEASE,
	FRAME,
	type Frame,
	type Hello,
	HOLD_VERSION,
	KEEPALIVE_SESSION,
} from "./protocol.ts";
import { decodeWaitStatus, type ExitStatus } from "./session.ts";
import { FrameSplitter } from "./splitter.ts";

/** An upstream session: its client and the client's id for it. */
interface Route {
	/** Undefined when it has left its process alone. */
	client: Client | undefined;
	id: number;
	exchange: Exchange;
	/** Of a request of the broker's own: called with the answer. */
	answered?: () => void;
}

interface Client {
	stream: Duplex;
	/** True when it speaks no version of the agent's. */
	refused: boolean;
	/** Upstream ids by the client's own. */
	sessions: Map<number, number>;
}

const OUTPUTS = [
	[FRAME.STDOUT, CREDIT_STDOUT],
	[FRAME.STDERR, CREDIT_STDERR],
] as const;
/** A frame without a payload. */
const END = { flags: 0, payload: Buffer.alloc(0) };
const CLOSE: Frame = { type: FRAME.CLOSE, flags: 0, session: 0, payload: Buffer.alloc(0) };
/** How long the agent may take to hold its sessions. */
const HOLD_TIMEOUT_MS = 30_000;
/** A client with more unread output is taken for dead. The windows keep a living one far below. */
const CLIENT_BACKLOG_MAX = 256 << 20;

export class AgentBroker {
	/** Resolves when the agent has answered; rejects when it does not. */
	readonly ready: Promise<Hello>;
	/** Resolves when the agent's stream has ended and all clients are closed. */
	readonly closed: Promise<void>;
	readonly #upstream: FrameConnection;
	readonly #routes = new Map<number, Route>();
	readonly #clients = new Set<Client>();
	readonly #exited: ((status: ExitStatus) => void) | undefined;
	#next = 0;
	/** While sessions are held: what to do afterwards, in order. */
	#held: (() => void)[] | undefined;
	/** The session that the first client has from the beginning. */
	#main: HeldSession | undefined;

	/**
	 * @param exited called when a process of any client has ended
	 * @param adopted sessions of an earlier host, which are held. The first client gets the main one
	 */
	constructor(upstream: Duplex, exited?: (status: ExitStatus) => void, adopted: readonly HeldSession[] = []) {
		this.#exited = exited;
		for (const { id, exchange } of adopted)
			this.#routes.set(id, { client: undefined, id, exchange: Exchange.from(exchange) });
		this.#main = adopted.find(({ role }) => role === "main");
		let closed: () => void;
		this.closed = new Promise((resolve) => {
			closed = resolve;
		});
		this.#upstream = new FrameConnection(upstream, {
			frame: (frame) => this.#down(frame),
			drained: () => {
				for (const client of this.#clients) client.stream.resume();
			},
			closed: () => {
				for (const client of this.#clients) client.stream.destroy();
				closed();
			},
		});
		this.ready = this.#upstream.hello({ forget: adopted.length === 0 }).then((hello) => {
			for (const held of adopted) this.#takeOver(held);
			return hello;
		});
		this.ready.catch(() => undefined); /* a caller that awaits it gets the error */
	}

	/** Serves one more client until its stream ends. */
	attach(stream: Duplex): void {
		const client: Client = { stream, refused: false, sessions: new Map() };
		const splitter = new FrameSplitter();
		this.#clients.add(client);
		if (this.#main !== undefined) {
			const { id } = this.#main;
			client.sessions.set(id, id);
			this.#routes.get(id)!.client = client;
			this.#main = undefined;
		}
		stream.on("data", (chunk: Buffer) => {
			try {
				for (const frame of splitter.push(chunk)) this.#up(client, frame);
			} catch (error) {
				stream.destroy(error as Error);
			}
		});
		stream.on("error", () => this.#detach(client));
		stream.on("end", () => this.#detach(client));
		stream.on("close", () => this.#detach(client));
		if (this.#upstream.closed) stream.destroy();
	}

	/**
	 * Holds all sessions: when this resolves, all that the agent has sent is here, all that clients have sent is there, and
	 * nothing is on the way until `release`. What clients send meanwhile waits.
	 *
	 * @param own the session of the first client whose process a next host is to have
	 * @returns what the next host has to know of the sessions
	 * @throws TsvmmError ERR_AGENT_VERSION for an agent that cannot, ERR_AGENT_TIMEOUT, ERR_AGENT_LOST
	 */
	async hold(own: number): Promise<HeldSession[]> {
		const { version } = await this.ready;
		if (version < HOLD_VERSION) {
			const message = `Cannot hold the sessions of the guest agent: it speaks version ${version} of the protocol`;
			throw new TsvmmError("ERR_AGENT_VERSION", message, { hint: "Start the machine anew with this tsvmm" });
		}
		const [first] = this.#clients;
		const main = first?.sessions.get(own);
		const answered = this.#request(FRAME.HOLD, 0);
		this.#held = [];
		try {
			await this.#soon(answered);
		} catch (error) {
			this.release();
			throw error;
		}
		return [...this.#routes].map(([id, { client, exchange }]) => {
			const isKept = client === undefined || client === first;
			return { id, role: id === main ? "main" : isKept ? "kept" : "closed", exchange: exchange.state };
		});
	}

	/** Lets all sessions go on. */
	release(): void {
		const waiting = this.#held ?? [];
		this.#held = undefined;
		void this.#request(FRAME.HOLD, FLAG_RELEASE);
		for (const work of waiting) work();
		for (const { stream } of this.#clients) stream.resume();
	}

	/** A request of the broker's own. Resolves when it was answered. */
	#request(type: number, flags: number): Promise<void> {
		return new Promise((resolve) => {
			const id = this.#unusedId();
			const exchange = new Exchange(type);
			exchange.sends({ type, flags, payload: END.payload });
			this.#routes.set(id, { client: undefined, id, exchange, answered: resolve });
			this.#upstream.send(type, flags, id);
		});
	}

	async #soon(answered: Promise<void>): Promise<void> {
		let timer: NodeJS.Timeout | undefined;
		const late = new Promise<never>((_, reject) => {
			const what = `HOLD was not answered for ${HOLD_TIMEOUT_MS / 1000} s`;
			const error = new TsvmmError("ERR_AGENT_TIMEOUT", `Cannot wait for the guest agent any longer: ${what}`);
			timer = setTimeout(() => reject(error), HOLD_TIMEOUT_MS);
		});
		const lost = this.closed.then((): never => {
			throw connectionLost(undefined);
		});
		try {
			await Promise.race([answered, late, lost]);
		} finally {
			clearTimeout(timer);
		}
	}

	/** The agent gets credit for all output that the earlier host has read. Nobody has the processes that were its clients'. */
	#takeOver({ id, role }: HeldSession): void {
		const route = this.#routes.get(id);
		if (route === undefined) return;
		if (role === "closed") {
			route.exchange.sends(CLOSE);
			this.#upstream.send(FRAME.CLOSE, 0, id);
		} else this.#drop(id, route);
	}

	/** Ends all clients and the agent's stream. */
	close(): void {
		for (const client of [...this.#clients]) {
			this.#detach(client);
			client.stream.destroy();
		}
		this.#upstream.destroy();
	}

	#up(client: Client, frame: Frame): void {
		if (this.#held !== undefined) {
			client.stream.pause();
			this.#held.push(() => {
				try {
					this.#up(client, frame);
				} catch (error) {
					client.stream.destroy(error as Error);
				}
			});
			return;
		}
		if (frame.type === FRAME.HELLO) {
			void this.#greet(client, frame.payload);
			return;
		}
		if (client.refused) return;
		let id = client.sessions.get(frame.session);
		if (id === undefined) {
			if (!Exchange.begins(frame.type)) return; /* a late frame of a session that has ended */
			id = this.#unusedId();
			client.sessions.set(frame.session, id);
			this.#routes.set(id, { client, id: frame.session, exchange: new Exchange(frame.type) });
		}
		const { exchange } = this.#routes.get(id)!;
		if (frame.type === FRAME.CLOSE && (frame.flags & FLAG_LEAVE) !== 0 && exchange.started) {
			this.#letGo(client, frame.session, id);
			return;
		}
		exchange.sends(frame);
		if (!this.#upstream.send(frame.type, frame.flags, id, frame.payload)) client.stream.pause();
	}

	#unusedId(): number {
		do this.#next = (this.#next % (KEEPALIVE_SESSION - 1)) + 1;
		while (this.#routes.has(this.#next));
		return this.#next;
	}

	#down(frame: Frame): void {
		if (frame.session === KEEPALIVE_SESSION && frame.type === FRAME.PONG) return;
		const route = this.#routes.get(frame.session);
		if (route === undefined)
			throw protocolError(`${frameName(frame.type)} for session ${frame.session}, which is none`);
		const { client, id } = route;
		if (route.exchange.arrived(frame)) {
			this.#routes.delete(frame.session);
			client?.sessions.delete(id);
			route.answered?.();
		}
		if (frame.type === FRAME.EXIT) this.#exited?.(decodeWaitStatus(frame.payload.readUInt32LE()));
		if (client === undefined) this.#drop(frame.session, route);
		if (client === undefined || !this.#clients.has(client)) return;
		writeFrame(client.stream, { ...frame, session: id });
		if (client.stream.writableLength > CLIENT_BACKLOG_MAX) client.stream.destroy();
	}

	/** The client's session is over, and the process goes on. */
	#letGo(client: Client, session: number, id: number): void {
		const route = this.#routes.get(id)!;
		for (const [type, stream] of OUTPUTS) {
			if (route.exchange.owed(stream) !== undefined) writeFrame(client.stream, { ...END, type, session });
		}
		writeFrame(client.stream, { ...END, type: FRAME.EXIT, session, payload: encodeU32(0) });
		client.sessions.delete(session);
		route.client = undefined;
		this.#drop(id, route);
	}

	/** Nobody reads what a process writes whose client has left it: it gets its credit back at once. */
	#drop(id: number, route: Route): void {
		const { exchange } = route;
		if (this.#held !== undefined) {
			this.#held.push(() => this.#drop(id, route));
			return;
		}
		if (this.#routes.get(id) !== route) return;
		for (const [, stream] of OUTPUTS) {
			const bytes = exchange.owed(stream) ?? 0;
			if (bytes === 0) continue;
			const payload = encodeU32(bytes);
			exchange.sends({ type: FRAME.CREDIT, flags: stream, payload });
			this.#upstream.send(FRAME.CREDIT, stream, id, payload);
		}
	}

	async #greet(client: Client, payload: Buffer): Promise<void> {
		const asked = decodeHello(payload);
		if (asked === undefined) {
			client.stream.destroy();
			return;
		}
		try {
			const hello = await this.ready;
			if (asked.forget) this.#hangUp(client);
			if (this.#clients.has(client)) client.stream.write(encodeHelloAnswer(asked.nonce, hello));
			/* Frames pass through unchanged, so the client must speak the version that the agent and we agreed on. */
			client.refused = hello.version < asked.min || hello.version > asked.max;
		} catch {
			client.stream.destroy();
		}
	}

	#detach(client: Client): void {
		if (!this.#clients.delete(client)) return;
		this.#hangUp(client);
	}

	/* The routes stay until the agent's last frame, so that no id is reused too early. */
	#hangUp(client: Client): void {
		if (this.#held !== undefined) {
			this.#held.push(() => this.#hangUp(client));
			return;
		}
		for (const id of client.sessions.values()) {
			this.#routes.get(id)?.exchange.sends(CLOSE);
			this.#upstream.send(FRAME.CLOSE, 0, id);
		}
	}
}

function writeFrame(stream: Duplex, frame: Frame): void {
	stream.write(encodeFrame(frame.type, frame.flags, frame.session, frame.payload));
}
