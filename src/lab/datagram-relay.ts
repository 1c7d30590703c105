/*
 * The end in the lab of the relay for published UDP ports: datagrams come by standard input, and each client has a socket
 * of its own here, so that answers find their way back.
 *
 *     client --UDP--> published-datagrams.ts --stdin--> this --UDP--> 127.0.0.1:PORT of the lab, passt, the guest
 *            <--UDP--                        <--stdout--     <--UDP--
 */
import { createSocket, type Socket } from "node:dgram";
import type { Readable, Writable } from "node:stream";
import { ignore } from "../base/errors.ts";
import { DatagramDecoder, encodeDatagram, type RelayedDatagram } from "./datagrams.ts";

/** Where the datagrams of a port go. */
export interface RelayTarget {
	address: string;
	port: number;
}

/** Clients at once. The one that was silent for longest makes room. */
const MOST_CLIENTS = 256;

/** Relays until `input` ends. */
export async function relayDatagrams(
	targets: readonly RelayTarget[],
	input: Readable,
	output: Writable,
): Promise<void> {
	/* By client, the one that was silent for longest first. */
	const sockets = new Map<number, Socket>();
	const decoder = new DatagramDecoder();
	try {
		for await (const chunk of input) {
			for (const datagram of decoder.take(chunk as Buffer)) send(datagram);
		}
	} finally {
		for (const socket of sockets.values()) socket.close();
	}

	function send({ port, client, payload }: RelayedDatagram): void {
		const target = targets[port];
		if (target === undefined) return;
		const socket = sockets.get(client) ?? open(port, client);
		sockets.delete(client);
		sockets.set(client, socket);
		/* As on any network: what cannot be sent is lost. */
		socket.send(payload, target.port, target.address, ignore);
	}

	function open(port: number, client: number): Socket {
		const [oldest] = sockets.keys();
		if (sockets.size >= MOST_CLIENTS) {
			sockets.get(oldest!)!.close();
			sockets.delete(oldest!);
		}
		const socket = createSocket("udp4");
		socket.on("error", ignore);
		socket.on("message", (payload) => output.write(encodeDatagram({ port, client, payload })));
		return socket;
	}
}
