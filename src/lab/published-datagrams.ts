/*
 * Publishes on this machine the UDP ports that a program publishes in the lab. The first datagram starts a process in the
 * lab (datagram-relay.ts), which has all ports and clients.
 */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import type { Session } from "../agent/session.ts";
import { type PortForward, portInUse } from "../backends/passt-ports.ts";
import { errnoName, explain, HostError, ignore } from "../base/errors.ts";
import { DatagramDecoder, encodeDatagram, type RelayedDatagram } from "./datagrams.ts";

/** Clients at once, of all ports. The one that was silent for longest is forgotten. */
const MOST_CLIENTS = 256;
/** Bytes that wait for the lab. More are dropped. */
const MOST_WAITING = 1 << 20;

interface Client {
	socket: Socket;
	from: RemoteInfo;
}

/** Starts the relay's process in the lab. */
export type StartRelay = (targets: readonly string[]) => Promise<Session>;

export class PublishedDatagrams {
	readonly #ports: readonly PortForward[];
	readonly #start: StartRelay;
	readonly #sockets: Socket[] = [];
	/** By number, and the number by address; the one that was silent for longest first. */
	readonly #clients = new Map<number, Client>();
	readonly #numbers = new Map<string, number>();
	#next = 0;
	#session: Promise<Session> | undefined;
	#closed = false;

	/** @throws HostError ERR_PORT_IN_USE, ERR_PORT. Nothing is bound then */
	static async open(ports: readonly PortForward[], start: StartRelay): Promise<PublishedDatagrams> {
		const published = new PublishedDatagrams(ports, start);
		try {
			for (const [index, port] of ports.entries()) await published.#bind(port, index);
		} catch (error) {
			published.close();
			throw error;
		}
		return published;
	}

	private constructor(ports: readonly PortForward[], start: StartRelay) {
		this.#ports = ports;
		this.#start = start;
	}

	/** Unbinds all ports, and ends the process in the lab. */
	close(): void {
		this.#closed = true;
		for (const socket of this.#sockets.splice(0)) socket.close();
		void this.#session?.then((session) => session.close(), ignore);
	}

	async #bind(port: PortForward, index: number): Promise<void> {
		const socket = createSocket("udp4");
		this.#sockets.push(socket);
		socket.on("message", (payload, from) => this.#received({ index, socket, from }, payload));
		await new Promise<void>((resolve, reject) => {
			socket.once("error", (error) => {
				const message = `Cannot publish port ${port.hostPort} of the lab: ${explain(error)}`;
				const known = errnoName(error) === "EADDRINUSE";
				reject(known ? portInUse(port, error) : new HostError("ERR_PORT", message, { cause: error }));
			});
			socket.bind({ port: port.hostPort, address: port.hostAddress ?? "0.0.0.0", exclusive: true }, resolve);
		});
		socket.on("error", ignore);
	}

	#received({ index, socket, from }: { index: number; socket: Socket; from: RemoteInfo }, payload: Buffer): void {
		const datagram = { port: index, client: this.#numberOf(`${index} ${from.address} ${from.port}`), payload };
		this.#clients.set(datagram.client, { socket, from });
		this.#relay(datagram).catch(ignore);
	}

	#numberOf(key: string): number {
		const number = this.#numbers.get(key) ?? this.#next++;
		/* Anew, so that it comes last. */
		this.#numbers.delete(key);
		this.#numbers.set(key, number);
		for (const [oldest, forgotten] of this.#numbers) {
			if (this.#numbers.size <= MOST_CLIENTS) break;
			this.#numbers.delete(oldest);
			this.#clients.delete(forgotten);
		}
		return number;
	}

	async #relay(datagram: RelayedDatagram): Promise<void> {
		this.#session ??= this.#connect();
		const { stdin } = await this.#session;
		if (stdin.writableLength < MOST_WAITING) stdin.write(encodeDatagram(datagram));
	}

	/** A relay that has ended is started again by the next datagram. */
	async #connect(): Promise<Session> {
		const gone = () => {
			this.#session = undefined;
		};
		try {
			const session = await this.#start(this.#ports.map(targetOf));
			if (this.#closed) session.close();
			void session.exit.then(gone, gone);
			session.stdin.on("error", ignore);
			session.stderr.resume();
			const decoder = new DatagramDecoder();
			session.stdout.on("data", (chunk: Buffer) => {
				for (const { client, payload } of decoder.take(chunk)) this.#answer(client, payload);
			});
			return session;
		} catch (error) {
			gone();
			throw error;
		}
	}

	#answer(number: number, payload: Buffer): void {
		const client = this.#clients.get(number);
		if (client === undefined || this.#closed) return;
		client.socket.send(payload, client.from.port, client.from.address, ignore);
	}
}

function targetOf({ hostAddress = "0.0.0.0", hostPort }: PortForward): string {
	return `${hostAddress === "0.0.0.0" ? "127.0.0.1" : hostAddress}:${hostPort}`;
}
