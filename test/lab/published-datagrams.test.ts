/*
 * Both ends of the lab's relay for UDP, connected without a lab: a client, an echo server and the streams between.
 */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { afterEach, expect, test } from "vitest";
import type { Session } from "../../src/agent/session.ts";
import { relayDatagrams } from "../../src/lab/datagram-relay.ts";
import { DatagramDecoder, encodeDatagram } from "../../src/lab/datagrams.ts";
import { PublishedDatagrams } from "../../src/lab/published-datagrams.ts";

const sockets: Socket[] = [];
afterEach(() => {
	for (const socket of sockets.splice(0)) socket.close();
});

async function bound(onMessage?: (socket: Socket, message: Buffer, port: number) => void): Promise<Socket> {
	const socket = createSocket("udp4");
	sockets.push(socket);
	socket.on("message", (message, { port }) => onMessage?.(socket, message, port));
	socket.bind(0, "127.0.0.1");
	await once(socket, "listening");
	return socket;
}

async function freePort(): Promise<number> {
	const socket = await bound();
	const { port } = socket.address();
	sockets.splice(sockets.indexOf(socket), 1);
	await new Promise<void>((resolve) => socket.close(() => resolve()));
	return port;
}

/** A relay that sends to `target` whatever it is told, as a process in the lab would be. */
function relayTo(target: number) {
	const started: (readonly string[])[] = [];
	const start = async (targets: readonly string[]) => {
		started.push(targets);
		const [stdin, stdout] = [new PassThrough(), new PassThrough()];
		const exit = relayDatagrams([{ address: "127.0.0.1", port: target }], stdin, stdout).then(() => ({ code: 0 }));
		return { stdin, stdout, stderr: new PassThrough(), exit, close: () => stdin.end() } as unknown as Session;
	};
	return { start, started };
}

test("DatagramDecoder finds datagrams wherever the stream is cut, empty ones too", () => {
	const all = [
		{ port: 0, client: 7, payload: Buffer.from("one") },
		{ port: 65_535, client: 2 ** 32 - 1, payload: Buffer.alloc(0) },
		{ port: 1, client: 0, payload: Buffer.alloc(5000, 3) },
	];
	const bytes = Buffer.concat(all.map(encodeDatagram));
	for (const size of [1, 7, 8, 9, 4096, bytes.length]) {
		const decoder = new DatagramDecoder();
		const found = [];
		for (let at = 0; at < bytes.length; at += size) found.push(...decoder.take(bytes.subarray(at, at + size)));
		expect(found).toEqual(all);
	}
});

test("PublishedDatagrams brings each client its own answers, as whole datagrams", async () => {
	const server = await bound((socket, message, port) => socket.send(Buffer.concat([message, message]), port));
	const hostPort = await freePort();
	const { start, started } = relayTo(server.address().port);
	const ports = [{ hostAddress: "127.0.0.1", hostPort, guestPort: 53, protocol: "udp" as const }];
	const published = await PublishedDatagrams.open(ports, start);
	const answers: string[] = [];
	const [one, two] = [
		await bound((_, message) => answers.push(`one ${message}`)),
		await bound((_, message) => answers.push(`two ${message}`)),
	];
	for (const text of ["a", "b"]) {
		one.send(text, hostPort, "127.0.0.1");
		two.send(text.toUpperCase(), hostPort, "127.0.0.1");
	}
	await expect.poll(() => [...answers].sort()).toEqual(["one aa", "one bb", "two AA", "two BB"]);
	expect(started).toEqual([[`127.0.0.1:${hostPort}`]]);
	published.close();
});

test("PublishedDatagrams starts a relay that has ended anew, and refuses a port that is taken", async () => {
	const server = await bound((socket, message, port) => socket.send(message, port));
	const hostPort = await freePort();
	const { start, started } = relayTo(server.address().port);
	const sessions: Session[] = [];
	const keep = async (targets: readonly string[]) => {
		sessions.push(await start(targets));
		return sessions.at(-1)!;
	};
	const ports = [{ hostPort, guestPort: 53, protocol: "udp" as const }];
	const published = await PublishedDatagrams.open(ports, keep);
	await expect(PublishedDatagrams.open(ports, keep)).rejects.toMatchObject({ code: "ERR_PORT_IN_USE" });
	let answers = 0;
	const client = await bound(() => answers++);
	client.send("first", hostPort, "127.0.0.1");
	await expect.poll(() => answers).toBe(1);
	sessions[0]!.close();
	await sessions[0]!.exit;
	client.send("second", hostPort, "127.0.0.1");
	await expect.poll(() => answers).toBe(2);
	expect(started).toHaveLength(2);
	published.close();
});
