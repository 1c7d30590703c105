import { execFile } from "node:child_process";
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { PasstBackend } from "../../src/backends/passt.ts";
import type { PortForward } from "../../src/backends/passt-ports.ts";
import { ACK, ethernet, GATEWAY, HandTcp, ipHex, PSH, SYN, udp, Wire } from "./passt-wire.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
});

/** A TCP and a UDP service of the host on every address, and what reached them. */
async function services() {
	const reached: string[] = [];
	const server = createServer((socket) => {
		reached.push(`tcp ${socket.localAddress}`);
		socket.destroy();
	});
	await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
	closers.push(() => new Promise((resolve) => server.close(resolve)));
	const socket = createSocket("udp4");
	await new Promise<void>((resolve) => socket.bind(0, "0.0.0.0", resolve));
	closers.push(() => new Promise<void>((resolve) => socket.close(() => resolve())));
	socket.on("message", (message) => reached.push(`udp ${message}`));
	return { reached, tcpPort: (server.address() as { port: number }).port, udpPort: socket.address().port };
}

async function wired(ports: PortForward[] = []): Promise<Wire> {
	const backend = await PasstBackend.open(ports);
	closers.push(() => backend.close());
	return new Wire(backend);
}

async function freeUdpPort(): Promise<number> {
	const socket = createSocket("udp4");
	await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
	const { port } = socket.address();
	await new Promise<void>((resolve) => socket.close(() => resolve()));
	return port;
}

/** An address of this host that is not its loopback's: what reaches it has passed everything sent before. */
function outerAddress(): string {
	const address = Object.values(networkInterfaces())
		.flat()
		.find((a) => a?.family === "IPv4" && !a.internal)?.address;
	if (address === undefined) throw new Error("this host has no address but its loopback's");
	return address;
}

const published: PortForward = { hostAddress: "127.0.0.1", hostPort: 0, guestPort: 5353, protocol: "udp" };

describe.each([
	["without published ports", async (): Promise<PortForward[]> => []],
	["with a published UDP port", async (): Promise<PortForward[]> => [{ ...published, hostPort: await freeUdpPort() }]],
])("PasstBackend %s", (_, ports) => {
	test("leads nothing of the guest to the host's loopback", async () => {
		const { reached, tcpPort, udpPort } = await services();
		const wire = await wired(await ports());
		for (const to of ["10.0.2.2", "127.0.0.1", "127.9.9.9", "0.0.0.0"]) {
			for (const from of [5000, 5353]) wire.send(udp(from, udpPort, Buffer.from(to), ipHex(to)));
			/* Each a connection of its own: passt must not take the later ones for answers to the first. */
			for (const flags of [SYN, SYN | ACK, ACK]) new HandTcp(wire, 40_000 + flags, tcpPort, ipHex(to)).send(flags);
		}
		const outer = outerAddress();
		wire.send(udp(5000, udpPort, Buffer.from("outside"), ipHex(outer)));
		new HandTcp(wire, 41_000, tcpPort, ipHex(outer)).send(SYN);
		await expect.poll(() => reached.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(2);
		expect(reached.sort()).toEqual([`tcp ${outer}`, "udp outside"]);
	});

	test("leads no IPv6 of the guest to the host's loopback", async () => {
		const { reached, udpPort } = await services();
		const socket = createSocket("udp6");
		await new Promise<void>((resolve) => socket.bind(udpPort, "::1", resolve));
		closers.push(() => new Promise<void>((resolve) => socket.close(() => resolve())));
		socket.on("message", () => reached.push("udp ::1"));
		const wire = await wired(await ports());
		const datagram = Buffer.from("138800000009ffff61", "hex");
		datagram.writeUInt16BE(udpPort, 2);
		const loopback = `${"00".repeat(15)}01`;
		const head = Buffer.from(`60000000000911ff${"fe80000000000000000000000000000f"}${loopback}`, "hex");
		wire.send(Buffer.concat([ethernet("86dd"), head, datagram]));
		wire.send(udp(5000, udpPort, Buffer.from("outside"), ipHex(outerAddress())));
		await expect.poll(() => reached.length, { timeout: 10_000 }).toBeGreaterThan(0);
		expect(reached).toEqual(["udp outside"]);
	});
});

describe("PasstBackend", () => {
	test("lets the guest answer a client on the loopback that uses a published UDP port, and nobody else there", async () => {
		const { reached, udpPort } = await services();
		const hostPort = await freeUdpPort();
		const wire = await wired([{ ...published, hostPort }]);
		const client = createSocket("udp4");
		closers.push(() => new Promise<void>((resolve) => client.close(() => resolve())));
		const answer = new Promise<string>((resolve) => client.once("message", (message) => resolve(String(message))));
		client.send("question", hostPort, "127.0.0.1");
		const question = await wire.next((f) => f[23] === 17 && f.readUInt16BE(36) === 5353);
		expect(question.subarray(26, 30).toString("hex")).toBe(GATEWAY);
		const clientPort = question.readUInt16BE(34);
		wire.send(udp(5353, udpPort, Buffer.from("to a service")));
		wire.send(udp(5354, clientPort, Buffer.from("from another port")));
		wire.send(udp(5353, clientPort, Buffer.from("answer")));
		expect(await answer).toBe("answer");
		expect(reached).toEqual([]);
	});

	test("lets the guest answer a client on the loopback that uses a published TCP port", async () => {
		const hostPort = await freeUdpPort();
		const wire = await wired([{ hostAddress: "127.0.0.1", hostPort, guestPort: 80, protocol: "tcp" }]);
		const client = connect(hostPort, "127.0.0.1");
		closers.push(() => client.destroy());
		const answer = new Promise<string>((resolve) => client.once("data", (data) => resolve(String(data))));
		const syn = await wire.next((f) => f[23] === 6 && f.readUInt16BE(36) === 80);
		const tcp = new HandTcp(wire, 80, syn.readUInt16BE(34));
		tcp.ack = syn.readUInt32BE(38) + 1;
		tcp.send(SYN | ACK);
		tcp.send(ACK | PSH, Buffer.from("hello"));
		expect(await answer).toBe("hello");
	});

	test("asks the host's resolver, though it listens on the loopback", async () => {
		const file = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);
		const script = `
			const { createSocket } = await import("node:dgram");
			const { PasstBackend } = await import(${file("../../src/backends/passt.ts")});
			const { ipHex, udp, Wire } = await import(${file("./passt-wire.ts")});
			const resolver = createSocket("udp4");
			await new Promise((resolve) => resolver.bind(53, "127.0.0.53", resolve));
			resolver.on("message", (message, from) => resolver.send(message + " answered", from.port, from.address));
			const backend = await PasstBackend.open();
			const wire = new Wire(backend);
			wire.send(udp(5000, 53, Buffer.from("query"), ipHex("10.0.2.3")));
			const answer = await wire.next((f) => f[23] === 17 && f.readUInt16BE(36) === 5000);
			console.log(answer.subarray(26, 30).join("."), answer.subarray(42).toString());
			await backend.close();
			resolver.close();`;
		const steps = `mount --make-rprivate / && ip link set lo up && echo nameserver 127.0.0.53 >/run/resolv.conf &&
			mount --bind /run/resolv.conf /etc/resolv.conf && exec "$@"`;
		const node = [process.execPath, "--import", "tsx", "--input-type=module", "-e", script];
		const command = ["--net", "--mount", "sh", "-c", `mount -t tmpfs none /run && ${steps}`, "sh", ...node];
		const { stdout } = await promisify(execFile)("unshare", command, { cwd: new URL("../..", import.meta.url) });
		expect(stdout).toBe("10.0.2.3 query answered\n");
	}, 20_000);
});
