import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import type { NetBackend, NetEvents } from "../../src/backends/contract.ts";
import { StreamNet } from "../../src/backends/stream-net.ts";
import { EthernetSwitch } from "../../src/backends/switch/ethernet-switch.ts";
import { SocketPort } from "../../src/backends/switch/socket-port.ts";
import { UplinkNet } from "../../src/backends/uplink-net.ts";
import type { Segments } from "../../src/base/segments.ts";
import { bytesOf, segmentsOf } from "./segments-of.ts";

const A = "020000000001";
const B = "020000000002";
const closers: (() => unknown)[] = [];
afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
});

/** A switch that listens on a unix socket. */
async function listening(network = new EthernetSwitch()) {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-stream-"));
	const path = join(directory, "s");
	const ports: SocketPort[] = [];
	const ended: number[] = [];
	const server: Server = createServer((socket) => {
		const index = ports.length;
		ports.push(new SocketPort(network, socket, { name: "member", onEnd: () => ended.push(index) }));
	});
	await new Promise<void>((resolve) => server.listen(path, resolve));
	closers.push(() => {
		for (const port of ports) port.close();
		server.close();
		rmSync(directory, { recursive: true, force: true });
	});
	return { path, ports, ended, network };
}

/** A guest's end: what it receives, and whether its link is up. */
function guest(backend: NetBackend) {
	const seen = { got: [] as string[], linkUp: true };
	const into = segmentsOf(Buffer.alloc(70_000), 1500);
	const read = () => {
		for (let length = backend.receive(into); length !== 0; length = backend.receive(into)) {
			seen.got.push(length < 0 ? "dropped" : bytesOf(into, length).toString("hex"));
		}
	};
	backend.start({
		readable: read,
		writable: () => undefined,
		linkDown: () => {
			seen.linkUp = false;
		},
	});
	return seen;
}

async function connect(path: string) {
	const backend = await StreamNet.connect(path);
	closers.push(() => backend.close());
	return { backend, seen: guest(backend) };
}

const frame = (to: string, from: string, text = "") => segmentsOf(Buffer.from(`${to}${from}88b5${text}`, "hex"), 5);

test("StreamNet carries frames through a switch in order, large ones too", async () => {
	const { path, ports } = await listening();
	const [a, b] = [await connect(path), await connect(path)];
	await expect.poll(() => ports.length).toBe(2);
	const large = "ab".repeat(65_000);
	for (const text of ["01", large, "03"]) expect(a.backend.send(frame(B, A, text))).toBe(true);
	await expect.poll(() => b.seen.got.length).toBe(3);
	expect(b.seen.got).toEqual(["01", large, "03"].map((text) => `${B}${A}88b5${text}`));
	expect(a.seen.got).toEqual([]);
});

test("SocketPort ends a member that sends what is no frame, and others go on", async () => {
	const { path, ports, ended } = await listening();
	const [a, b, hostile] = [await connect(path), await connect(path), await connect(path)];
	await expect.poll(() => ports.length).toBe(3);
	/* The port's stream sends a length of 1. */
	expect(hostile.backend.send(segmentsOf(Buffer.from([1])))).toBe(true);
	await expect.poll(() => ended).toEqual([2]);
	await expect.poll(() => hostile.seen.linkUp).toBe(false);
	a.backend.send(frame("ffffffffffff", A, "01"));
	await expect.poll(() => b.seen.got).toEqual([`ffffffffffff${A}88b501`]);
});

test("SocketPort drops frames for a member that does not read, and the sender never waits", async () => {
	const { path, ports, network } = await listening();
	const slow = await StreamNet.connect(path);
	closers.push(() => slow.close());
	await expect.poll(() => ports.length).toBe(1);
	const sender = { send: () => undefined };
	network.add(sender);
	const bytes = Buffer.concat([Buffer.from(`${B}${A}88b5`, "hex"), Buffer.alloc(60_000)]);
	for (let i = 0; i < 1000; i++) network.receive(bytes, sender);
	const seen = guest(slow);
	const small = `${B}${A}88b5`;
	await expect
		.poll(() => {
			network.receive(Buffer.from(small, "hex"), sender);
			return seen.got.at(-1);
		})
		.toBe(small);
	/* What both ends and the kernel hold. */
	expect(seen.got.filter((text) => text !== small).length).toBeLessThan(100);
});

test("StreamNet says that nobody listens, and that the link is down when the switch has gone", async () => {
	const { path, ports } = await listening();
	await expect(StreamNet.connect(`${path}x`)).rejects.toMatchObject({ code: "ERR_NET_STREAM" });
	const { backend, seen } = await connect(path);
	await expect.poll(() => ports.length).toBe(1);
	ports[0]!.close();
	await expect.poll(() => seen.linkUp).toBe(false);
	expect(backend.send(frame(B, A))).toBe(true);
});

/** A backend that keeps what it is given. */
class RecordedNet implements NetBackend {
	readonly offloads = { vnetHeader: false, csum: false, tso: false, guestCsum: false, guestTso: false };
	readonly sent: string[] = [];
	readonly waiting: Buffer[] = [];
	events: NetEvents | undefined;
	closed = false;
	start(events: NetEvents): void {
		this.events = events;
	}
	setGuestOffloads(): void {
		/* None. */
	}
	send(segments: Segments): boolean {
		this.sent.push(bytesOf(segments).toString("hex"));
		return true;
	}
	receive(into: Segments): number {
		const next = this.waiting.shift();
		return next === undefined ? 0 : into.copyFrom(next);
	}
	async close(): Promise<void> {
		this.closed = true;
	}
}

test("UplinkNet sends what is for the gateway up, and all else to the network", async () => {
	const [network, uplink] = [new RecordedNet(), new RecordedNet()];
	const gateway = { address: "10.0.0.1", mac: "52:55:0a:00:02:02" };
	const backend = new UplinkNet(network, uplink, gateway);
	const seen = guest(backend);
	const arp = (target: string) =>
		`ffffffffffff${A}08060001080006040001${A}0a000002000000000000${Buffer.from(target.split(".").map(Number)).toString("hex")}`;
	const up = [`52550a000202${A}0800aa`, arp("10.0.0.1")];
	const across = [`${B}${A}0800aa`, `ffffffffffff${A}0800aa`, arp("10.0.0.3"), `ffffffffffff${A}0806`];
	for (const text of [...up, ...across]) backend.send(segmentsOf(Buffer.from(text, "hex"), 7));
	expect(uplink.sent).toEqual(up);
	expect(network.sent).toEqual(across);
	network.waiting.push(Buffer.from("01"));
	uplink.waiting.push(Buffer.from("02"));
	uplink.events!.readable();
	expect(seen.got).toEqual([Buffer.from("01").toString("hex"), Buffer.from("02").toString("hex")]);
	uplink.events!.linkDown();
	expect(seen.linkUp).toBe(true);
	network.events!.linkDown();
	expect(seen.linkUp).toBe(false);
	await backend.close();
	expect([network.closed, uplink.closed]).toEqual([true, true]);
});
