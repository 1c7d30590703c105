/*
 * The GDB server of a machine: it listens on a port of loopback or at a unix socket, for one client at a time.
 *
 *     gdb -- bytes --> PacketReader -- packets, one after the other --> GdbSession --> MachineDebugger
 *
 * A client that sends faster than it reads waits: no more than a few answers are held for it.
 */
import { createServer, type Server, type Socket } from "node:net";
import { UnixListener } from "../../backends/unix-listener.ts";
import { explain, HostError } from "../../base/errors.ts";
import type { Machine } from "../../machine/machine.ts";
import { MachineDebugger } from "../debugger.ts";
import { encodePacket, type GdbInput, isFirstByte, PacketReader } from "./packets.ts";
import { GdbSession } from "./session.ts";

/** Where the server listens: a port of 127.0.0.1 (0 for any), or the path of a unix socket. */
export type GdbAddress = number | string;

const LOOPBACK = "127.0.0.1";
/** Answers that the client has not read yet, in bytes. */
const MAX_UNREAD = 1 << 18;
/** How long the end of a connection waits for them. */
const UNREAD_MS = 1000;

export class GdbServer {
	/** What GDB's `target remote` takes. */
	readonly target: string;
	readonly #close: () => Promise<void>;
	#client: GdbClient | undefined;

	/** @throws HostError ERR_GDB_LISTEN for the port, ERR_SOCKET, ERR_SOCKET_IN_USE for the path */
	static async open(address: GdbAddress, machine: Machine): Promise<GdbServer> {
		const onClient = (socket: Socket) => made.#accept(socket, machine);
		const { target, close } = await (typeof address === "number"
			? onPort(address, onClient)
			: onPath(address, onClient));
		const made = new GdbServer(target, close);
		return made;
	}

	private constructor(target: string, close: () => Promise<void>) {
		this.target = target;
		this.#close = close;
	}

	/** Ends listening and the client's session. */
	async close(): Promise<void> {
		const closed = this.#close();
		this.#client?.end();
		await closed;
	}

	#accept(socket: Socket, machine: Machine): void {
		if (this.#client !== undefined || machine.state === "ended") {
			socket.on("error", () => undefined);
			socket.destroy();
			return;
		}
		const client = new GdbClient(socket, machine);
		this.#client = client;
		socket.once("close", () => {
			if (this.#client === client) this.#client = undefined;
		});
	}
}

/** One connection. */
class GdbClient {
	readonly #socket: Socket;
	readonly #machine: Machine;
	readonly #reader = new PacketReader();
	#session: GdbSession | undefined;
	#acks = true;
	#isFirst = true;
	/** The last packet of ours, for a client that did not get it. */
	#last: Buffer | undefined;
	#working = false;
	#unread: Buffer[] = [];

	constructor(socket: Socket, machine: Machine) {
		this.#socket = socket;
		this.#machine = machine;
		socket.setNoDelay(true);
		socket.on("error", () => undefined);
		socket.on("end", () => socket.destroy());
		socket.once("close", () => {
			this.#unread = [];
			void this.#session?.close();
		});
		const work = () => {
			/* A packet that takes its time holds back those behind it. */
			if (this.#working) socket.pause();
			else this.#work().catch(() => socket.destroy());
		};
		socket.on("drain", work);
		socket.on("data", (bytes: Buffer) => {
			this.#unread.push(bytes);
			work();
		});
	}

	/** What was sent still arrives, unless the client does not read it. */
	end(): void {
		const timer = setTimeout(() => this.#socket.destroy(), UNREAD_MS);
		this.#socket.once("close", () => clearTimeout(timer));
		this.#socket.destroySoon();
	}

	/** Takes what has come, packet by packet. */
	async #work(): Promise<void> {
		this.#working = true;
		for (
			let bytes = this.#unread.shift();
			bytes !== undefined && !this.#socket.destroyed;
			bytes = this.#unread.shift()
		) {
			if (this.#isFirst && !isFirstByte(bytes[0]!)) {
				this.#socket.destroy();
				return;
			}
			this.#isFirst = false;
			if (this.#socket.writableLength > MAX_UNREAD) {
				this.#unread.unshift(bytes);
				break;
			}
			const found = this.#reader.next(bytes);
			if (found === undefined) continue;
			if (found.taken < bytes.length) this.#unread.unshift(bytes.subarray(found.taken));
			await this.#take(found.input);
		}
		this.#working = false;
		if (this.#unread.length > 0) this.#socket.pause();
		else this.#socket.resume();
	}

	async #take(input: GdbInput): Promise<void> {
		switch (input.kind) {
			case "packet":
				if (this.#acks) this.#write(Buffer.from("+"));
				this.#session ??= this.#begin();
				await this.#session.packet(input.payload);
				return;
			case "damaged":
				if (this.#acks) this.#write(Buffer.from("-"));
				return;
			case "again":
				if (this.#acks && this.#last !== undefined) this.#write(this.#last);
				return;
			case "interrupt":
				this.#session?.interrupt();
		}
	}

	#begin(): GdbSession {
		return new GdbSession(MachineDebugger.of(this.#machine), {
			send: (payload) => {
				this.#last = encodePacket(payload);
				this.#write(this.#last);
			},
			noAck: () => {
				this.#acks = false;
			},
			end: () => this.end(),
		});
	}

	#write(bytes: Buffer): void {
		if (this.#socket.writable) this.#socket.write(bytes);
	}
}

interface Listening {
	readonly target: string;
	readonly close: () => Promise<void>;
}

async function onPath(path: string, onClient: (socket: Socket) => void): Promise<Listening> {
	const listener = await UnixListener.open(path, onClient);
	return { target: path, close: () => listener.close() };
}

async function onPort(port: number, onClient: (socket: Socket) => void): Promise<Listening> {
	const server = createServer(onClient);
	try {
		await listen(server, port);
	} catch (cause) {
		throw new HostError("ERR_GDB_LISTEN", `Cannot listen on ${LOOPBACK}:${port} for gdb: ${explain(cause)}`, {
			hint: "Choose another port, or the path of a unix socket",
			cause,
		});
	}
	const address = server.address();
	const chosen = typeof address === "object" && address !== null ? address.port : port;
	const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
	return { target: `${LOOPBACK}:${chosen}`, close };
}

function listen(server: Server, port: number): Promise<void> {
	return new Promise((resolve, reject) => {
		server.once("error", reject);
		server.listen(port, LOOPBACK, resolve);
	});
}
