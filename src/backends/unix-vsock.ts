/*
 * The host's side of vsock on unix sockets, by Firecracker's hybrid protocol:
 *
 *     host begins:   connect to `uds`, send "CONNECT 1024\n"; "OK 1073741824\n" comes when the guest has accepted, then
 *                    the guest's bytes. A refusal closes the socket.
 *     guest begins: CID 2, port 52 leads to the process that listens on `${uds}_52`.
 *
 * Code in this process needs no socket: `connect` and `listen` give it streams to and from the guest.
 */
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type Enter, enterDirectly } from "../base/enter.ts";
import { HostError, ignore } from "../base/errors.ts";
import type { VsockBackend, VsockGuest } from "./contract.ts";
import { duplexPair } from "./duplex-pair.ts";
import { SocketStream } from "./socket-stream.ts";
import { UnixListener } from "./unix-listener.ts";

/** More clients at once than that are turned away. */
const MOST_SOCKETS = 1024;
/** A little more than "CONNECT 4294967295\n". */
const MAX_LINE_BYTES = 32;

/** The host's side of a guest's vsock: ports of this process, and of the host by a unix socket. */
export class UnixVsock implements VsockBackend {
	readonly #uds: string | undefined;
	readonly #enter: Enter;
	readonly #sockets = new Set<Duplex>();
	readonly #listeners = new Map<number, (stream: Duplex) => void>();
	readonly #refusals = new Map<number, () => void>();
	#listener: UnixListener | undefined;
	#guest: VsockGuest | undefined;
	#closed = false;

	private constructor(uds: string | undefined, enter: Enter) {
		this.#uds = uds;
		this.#enter = enter;
	}

	/**
	 * Listens on `uds`. Without a path only code in this process reaches the guest. A socket file that nobody listens on
	 * is replaced.
	 *
	 * @param options.enter the way into the machine that it belongs to
	 * @throws HostError ERR_SOCKET_IN_USE when somebody listens there, ERR_SOCKET when the path cannot be a socket
	 */
	static async open(uds?: string, { enter = enterDirectly }: { enter?: Enter } = {}): Promise<UnixVsock> {
		const vsock = new UnixVsock(uds, enter);
		const onClient = (socket: Socket) => enter("vsock", () => vsock.#client(socket));
		if (uds !== undefined) vsock.#listener = await UnixListener.open(uds, onClient);
		return vsock;
	}

	start(guest: VsockGuest): void {
		this.#guest = guest;
	}

	/**
	 * A stream to `port` of the guest.
	 *
	 * @param options.signal withdraws the request, with the signal's reason
	 * @throws HostError ERR_VSOCK_REFUSED
	 */
	connect(port: number, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<Duplex> {
		return new Promise((resolve, reject) => {
			signal?.throwIfAborted();
			const [ours, theirs] = duplexPair();
			const abort = () => {
				reject(signal?.reason);
				theirs.destroy();
			};
			signal?.addEventListener("abort", abort, { once: true });
			const answer = (hostPort: number | undefined) => {
				signal?.removeEventListener("abort", abort);
				if (hostPort !== undefined) {
					resolve(ours);
					return;
				}
				ours.destroy();
				theirs.destroy();
				const message = `Cannot connect to vsock port ${port} of the guest: it does not listen there`;
				reject(new HostError("ERR_VSOCK_REFUSED", message));
			};
			if (this.#guest === undefined) answer(undefined);
			else this.#guest.connect(port, theirs, answer);
		});
	}

	/**
	 * Takes the guest's connections to `port`. A socket `${uds}_${port}` then gets none. Returns a function that ends it.
	 */
	listen(port: number, onConnection: (stream: Duplex) => void): () => void {
		this.#listeners.set(port, onConnection);
		return () => {
			if (this.#listeners.get(port) === onConnection) this.#listeners.delete(port);
		};
	}

	/** Resolves when the guest asks for a port on which nobody in this process listens. */
	refusal(port: number): Promise<void> {
		return new Promise((resolve) => this.#refusals.set(port, resolve));
	}

	open(port: number): Promise<Duplex | undefined> {
		const listener = this.#listeners.get(port);
		if (listener !== undefined) {
			const [ours, theirs] = duplexPair();
			listener(ours);
			return Promise.resolve(theirs);
		}
		this.#refusals.get(port)?.();
		this.#refusals.delete(port);
		if (this.#uds === undefined || this.#closed) return Promise.resolve(undefined);
		const path = `${this.#uds}_${port}`;
		return new Promise((resolve) => {
			const socket = connect({ path, allowHalfOpen: true });
			this.#own(socket);
			socket.once("connect", () => resolve(this.#takeOver(socket)));
			socket.once("close", () => resolve(undefined));
		});
	}

	async close(): Promise<void> {
		this.#closed = true;
		const ended = this.#listener?.close();
		this.#listener = undefined;
		for (const socket of this.#sockets) socket.destroy();
		await ended;
	}

	#takeOver(socket: Socket): SocketStream {
		const stream = SocketStream.takeOver(socket, { enter: this.#enter, name: "vsock" });
		this.#own(stream);
		return stream;
	}

	#own(socket: Duplex): void {
		this.#sockets.add(socket);
		socket.on("error", ignore);
		socket.once("close", () => this.#sockets.delete(socket));
	}

	/** A process on the host has connected. Its first line names the port of the guest. */
	#client(client: Socket): void {
		client.on("error", ignore);
		if (this.#sockets.size >= MOST_SOCKETS) {
			client.destroy();
			return;
		}
		const socket = this.#takeOver(client);
		let line = Buffer.alloc(0);
		const read = (chunk: Buffer) => this.#enter("vsock", () => take(chunk));
		const take = (chunk: Buffer) => {
			line = Buffer.concat([line, chunk.subarray(0, MAX_LINE_BYTES)]);
			const end = line.indexOf("\n");
			if (end < 0) {
				if (line.length >= MAX_LINE_BYTES) socket.destroy();
				return;
			}
			socket.off("data", read);
			socket.off("end", ended);
			socket.pause();
			const rest = chunk.subarray(end + 1 - (line.length - Math.min(chunk.length, MAX_LINE_BYTES)));
			if (rest.length > 0) socket.unshift(rest);
			const port = /^CONNECT ([0-9]{1,10})\r?$/.exec(line.toString("latin1", 0, end))?.[1];
			if (port === undefined || Number(port) > 0xffff_ffff) socket.destroy();
			else this.#join(socket, Number(port));
		};
		const ended = () => socket.destroy();
		socket.on("data", read);
		socket.on("end", ended);
	}

	#join(socket: SocketStream, port: number): void {
		const answer = (hostPort: number | undefined) => {
			if (hostPort === undefined) socket.destroy();
			else socket.write(`OK ${hostPort}\n`);
		};
		if (this.#guest === undefined) answer(undefined);
		else this.#guest.connect(port, socket, answer);
	}
}
