/*
 * Asks the host's name server (the first of /etc/resolv.conf) by UDP. Queries pass on as they are, but for their ID,
 * which is chosen anew.
 */
import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { isIPv6 } from "node:net";

const DNS_PORT = 53;
const TIMEOUT_MS = 5000;
/** More queries than that at once are dropped: the resolver of a guest asks again. */
const MOST_PENDING = 128;

/** Where to ask; undefined when the host has no name server. */
export interface ServerAddress {
	address: string;
	port: number;
}

export class HostResolver {
	readonly #server: () => ServerAddress | undefined;
	#pending = 0;

	/** @param server looked up for each query, because hosts move between networks */
	constructor(server: () => ServerAddress | undefined = hostServer) {
		this.#server = server;
	}

	/** The server's answer to a query, at least a header long. Undefined when none comes. */
	async ask(query: Buffer): Promise<Buffer | undefined> {
		const server = this.#server();
		if (server === undefined || this.#pending >= MOST_PENDING) return undefined;
		this.#pending++;
		try {
			return await exchange(query, server);
		} finally {
			this.#pending--;
		}
	}
}

function exchange(query: Buffer, { address, port }: ServerAddress): Promise<Buffer | undefined> {
	const id = randomInt(0x10000);
	const own = Buffer.from(query);
	own.writeUInt16BE(id, 0);
	/* A socket of its own for each query, so that the port is as hard to guess as the ID. */
	const socket = createSocket(isIPv6(address) ? "udp6" : "udp4");
	return new Promise<Buffer | undefined>((resolve) => {
		const timer = setTimeout(() => resolve(undefined), TIMEOUT_MS);
		socket.once("close", () => clearTimeout(timer));
		socket.on("error", () => resolve(undefined));
		socket.on("message", (answer) => {
			if (answer.length < 12 || answer.readUInt16BE(0) !== id) return;
			query.copy(answer, 0, 0, 2);
			resolve(answer);
		});
		/* Connected: what comes from anywhere else is not delivered. */
		socket.connect(port, address, () => socket.send(own));
	}).finally(() => socket.close());
}

function hostServer(): ServerAddress | undefined {
	try {
		const address = /^nameserver\s+([\da-f.:]+)/im.exec(readFileSync("/etc/resolv.conf", "utf8"))?.[1];
		return address === undefined ? undefined : { address, port: DNS_PORT };
	} catch {
		return undefined;
	}
}
