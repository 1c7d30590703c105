import { createHash, randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { type DriverOptions, FakeDriver } from "../driver/fake-driver.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { CID, GuestVsock, header, OP } from "./vsock-guest.ts";

const SEND = 2;
const RECEIVE = 1;
const hash = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");
const open: VsockDevice[] = [];

async function started(options: DriverOptions = {}, guestOptions: ConstructorParameters<typeof GuestVsock>[1] = {}) {
	const backend = await UnixVsock.open();
	const device = new VsockDevice(CID, backend);
	open.push(device);
	const ram = new FakeRam([[0, 8 << 20]]);
	const driver = new FakeDriver(device, { ram, ...options }).start();
	const guest = new GuestVsock(driver, guestOptions);
	return { backend, device, driver, guest };
}

afterEach(async () => {
	for (const device of open.splice(0)) await device.close();
});

/** Collects what a stream gives. */
function sink(stream: Duplex) {
	const state = { bytes: 0, chunks: [] as Buffer[], ended: false, closed: false };
	stream.on("data", (chunk: Buffer) => {
		state.chunks.push(chunk);
		state.bytes += chunk.length;
	});
	stream.on("end", () => {
		state.ended = true;
	});
	stream.on("close", () => {
		state.closed = true;
	});
	stream.on("error", () => undefined);
	return state;
}

/** A connection that the guest began, seen from both sides. */
async function joined(port = 52) {
	const setup = await started();
	const accepted = new Promise<Duplex>((resolve) => setup.backend.listen(port, resolve));
	const stream = setup.guest.connect(port);
	const host = await accepted;
	await setup.guest.until(() => stream.state === "established", "the connection");
	return { ...setup, stream, host };
}

describe("VsockDevice", () => {
	test("config holds the guest's context ID", async () => {
		const { driver, device } = await started();
		expect([...driver.config(0, 8)]).toEqual([CID, 0, 0, 0, 0, 0, 0, 0]);
		expect(device.deviceId).toBe(19);
	});

	test("a guest's connection reaches the listener of its port, and bytes go both ways", async () => {
		const { guest, stream, host } = await joined();
		const got = sink(host);
		stream.write("ping");
		await guest.until(() => got.bytes === 4, "the guest's bytes");
		expect(Buffer.concat(got.chunks).toString()).toBe("ping");
		host.write("pong");
		await guest.until(() => stream.receivedBytes === 4, "the host's bytes");
		expect(stream.data.toString()).toBe("pong");
		expect(guest.heard.every((h) => h.cids[0] === 2 && h.cids[1] === CID)).toBe(true);
	});

	test("a connection to a port without listener is reset", async () => {
		const { guest } = await started();
		const stream = guest.connect(99);
		await guest.until(() => stream.state === "reset", "the reset");
		expect(guest.ops()).toEqual([OP.RST]);
	});

	test("connect reaches a listening guest port and refuses a deaf one", async () => {
		const { guest, backend } = await started();
		guest.listening.add(1024);
		const both = Promise.all([
			backend.connect(1024),
			backend.connect(1025).then(
				() => "accepted",
				(error) => error.code,
			),
		]);
		let result: [Duplex, unknown] | undefined;
		void both.then((value) => {
			result = value;
		});
		await guest.until(() => result !== undefined, "both answers");
		expect(result![1]).toBe("ERR_VSOCK_REFUSED");
		result![0].write("hello");
		const [stream] = [...guest.streams.values()];
		await guest.until(() => stream!.receivedBytes === 5, "the bytes");
	});

	test("connect is refused before the driver is there", async () => {
		const backend = await UnixVsock.open();
		open.push(new VsockDevice(CID, backend));
		await expect(backend.connect(1024)).rejects.toMatchObject({ code: "ERR_VSOCK_REFUSED" });
	});

	test("8 streams move 2 MiB each both ways unharmed", async () => {
		const { guest, backend } = await started();
		const hosts: Duplex[] = [];
		backend.listen(7, (stream) => hosts.push(stream));
		const streams = Array.from({ length: 8 }, () => guest.connect(7));
		await guest.until(() => streams.every((s) => s.state === "established"), "8 connections");
		const sizes = 2 << 20;
		const sent = streams.map(() => randomBytes(sizes));
		const back = streams.map(() => randomBytes(sizes));
		const sinks = hosts.map(sink);
		streams.forEach((s, i) => {
			s.write(sent[i]!);
			s.finish = SEND;
		});
		hosts.forEach((h, i) => {
			h.end(back[i]!);
		});
		await guest.until(() => sinks.every((s) => s.ended) && streams.every((s) => s.hostShutdown !== 0), "all bytes");
		expect(sinks.map((s) => hash(Buffer.concat(s.chunks)))).toEqual(sent.map(hash));
		expect(streams.map((s) => hash(s.data))).toEqual(back.map(hash));
	}, 30_000);

	test("a guest that ends its sending half still receives", async () => {
		const { guest, stream, host } = await joined();
		const got = sink(host);
		stream.write("last words");
		stream.finish = SEND;
		await guest.until(() => got.ended, "the end");
		expect(Buffer.concat(got.chunks).toString()).toBe("last words");
		host.write("an answer");
		await guest.until(() => stream.receivedBytes === 9, "the answer");
		host.end();
		await guest.until(() => stream.hostShutdown !== 0, "the host's end");
		expect(stream.state).toBe("established");
		expect(got.closed).toBe(true);
	});

	test("a host that ends its sending half still receives", async () => {
		const { guest, stream, host } = await joined();
		const got = sink(host);
		host.end("done");
		await guest.until(() => stream.hostShutdown !== 0, "the host's end");
		expect([stream.hostShutdown, stream.data.toString()]).toEqual([SEND, "done"]);
		stream.write("still here");
		await guest.until(() => got.bytes === 10, "the guest's bytes");
	});

	test("a guest that closes both halves gets a reset and its bytes still arrive", async () => {
		const { guest, stream, host } = await joined();
		const data = randomBytes(200_000);
		stream.write(data);
		stream.finish = SEND | RECEIVE;
		await guest.until(() => stream.state === "reset", "the reset");
		const got = sink(host);
		await guest.until(() => got.ended && got.closed, "the end");
		expect(hash(Buffer.concat(got.chunks))).toBe(hash(data));
	});

	test("a host stream that is destroyed resets the guest's", async () => {
		const { guest, stream, host } = await joined();
		host.destroy();
		await guest.until(() => stream.state === "reset", "the reset");
	});

	test("a reset by the guest destroys the host's stream", async () => {
		const { guest, stream, host } = await joined();
		const got = sink(host);
		guest.reset(stream);
		await guest.until(() => got.closed, "the close");
		expect(got.ended).toBe(false);
		expect(guest.ops()).toEqual([OP.RESPONSE]);
	});

	test("a slow guest reader stalls its own stream only, and goes on with new credit", async () => {
		const { guest, backend } = await started();
		const hosts: Duplex[] = [];
		backend.listen(7, (s) => hosts.push(s));
		const [slow, quick] = [guest.connect(7), guest.connect(7)];
		slow.slow = true;
		await guest.until(() => hosts.length === 2 && quick.state === "established", "2 connections");
		const data = randomBytes(1 << 20);
		hosts[0]!.end(data);
		hosts[1]!.end(data);
		await guest.until(() => quick.receivedBytes === data.length, "the quick stream");
		expect(slow.receivedBytes).toBe(slow.bufAlloc);
		expect(guest.heard.filter((h) => h.op === OP.CREDIT_REQUEST && h.guestPort === slow.guestPort).length).toBe(1);
		slow.slow = false;
		await guest.until(() => slow.hostShutdown !== 0, "the slow stream");
		expect(hash(slow.data)).toBe(hash(data));
	});

	test("a slow host reader stalls its own stream only, and goes on with new credit", async () => {
		const { guest, backend } = await started();
		const hosts: Duplex[] = [];
		backend.listen(7, (s) => hosts.push(s));
		const [slow, quick] = [guest.connect(7), guest.connect(7)];
		await guest.until(() => hosts.length === 2 && quick.state === "established", "2 connections");
		const data = randomBytes(2 << 20);
		for (const stream of [slow, quick]) {
			stream.write(data);
			stream.finish = SEND;
		}
		const got = sink(hosts[1]!);
		await guest.until(() => got.ended, "the quick stream");
		await guest.settle();
		expect(slow.sent).toBeLessThan(512 * 1024);
		expect(slow.credit()).toBe(0);
		const late = sink(hosts[0]!);
		await guest.until(() => late.ended, "the slow stream");
		expect(hash(Buffer.concat(late.chunks))).toBe(hash(data));
	});

	test("connections with data take turns", async () => {
		const { guest, backend } = await started({}, { rxBuffers: 4 });
		const hosts: Duplex[] = [];
		backend.listen(7, (s) => hosts.push(s));
		const streams = [guest.connect(7), guest.connect(7), guest.connect(7)];
		await guest.until(() => hosts.length === 3 && streams.every((s) => s.state === "established"), "3 connections");
		guest.heard.length = 0;
		for (const host of hosts) host.write(randomBytes(48 * 1024));
		await guest.until(() => streams.every((s) => s.receivedBytes === 48 * 1024), "all bytes");
		const order = guest.heard.filter((h) => h.op === OP.RW).map((h) => h.guestPort);
		for (let i = 6; i < 22; i++) expect(new Set(order.slice(i, i + 3)).size).toBe(3);
	});

	test("packets in any descriptor layout are understood", async () => {
		const { guest, stream, host } = await joined();
		const got = sink(host);
		const fields = { srcPort: stream.guestPort, dstPort: stream.hostPort };
		guest.raw(fields, Buffer.from("abcdef"), [1, 20, 22, 3, 4]);
		guest.raw(fields, Buffer.from("ghi"), [44, 3]);
		guest.raw(fields, Buffer.from("jkl"), [45, 2]);
		await guest.until(() => got.bytes === 12, "the bytes");
		expect(Buffer.concat(got.chunks).toString()).toBe("abcdefghijkl");
	});

	test("a payload shorter than its chain is taken at its length", async () => {
		const { guest, stream, host } = await joined();
		const got = sink(host);
		guest.raw({ srcPort: stream.guestPort, dstPort: stream.hostPort, len: 3 }, Buffer.from("abcdef"));
		await guest.until(() => got.bytes === 3, "the bytes");
	});

	test("CREDIT_REQUEST is answered with our buffer and counter", async () => {
		const { guest, stream, host } = await joined();
		sink(host);
		stream.write("12345");
		await guest.settle();
		guest.raw({ srcPort: stream.guestPort, dstPort: stream.hostPort, op: OP.CREDIT_REQUEST });
		await guest.until(() => guest.ops().includes(OP.CREDIT_UPDATE), "the update");
		const update = guest.heard.find((h) => h.op === OP.CREDIT_UPDATE)!;
		expect([update.bufAlloc, update.fwdCnt]).toEqual([256 * 1024, 5]);
	});
});

describe("VsockDevice with a hostile guest", () => {
	test("packets of and for other context IDs vanish", async () => {
		const { guest } = await started();
		guest.raw({ srcCid: 4, op: OP.REQUEST });
		guest.raw({ dstCid: 1, op: OP.REQUEST });
		guest.raw({ dstCid: 0x1_0000_0002, op: OP.REQUEST });
		await guest.settle();
		expect(guest.heard).toEqual([]);
		expect(guest.driver.queue(1).outstanding).toBe(0);
	});

	test.each([0, 1, 43])("a packet of %i bytes is dropped and its chain returned", async (length) => {
		const { guest, driver } = await started();
		if (length === 0) driver.queue(1).add([{ write: true, length: 64 }]);
		else guest.rawBytes(header({ op: OP.REQUEST }).subarray(0, length));
		driver.queue(1).kick();
		expect(driver.queue(1).collect()).toHaveLength(1);
		expect(driver.needsReset).toBe(false);
	});

	test.each([
		["a type that is no stream", { type: 2 }],
		["an op that does not exist", { op: 77 }],
		["op 0", { op: 0 }],
		["more payload than the chain holds", { len: 5 }],
		["a length of 4 GiB", { len: 0xffffffff }],
		["RESPONSE to nothing", { op: OP.RESPONSE }],
		["a second REQUEST", { op: OP.REQUEST }],
	])("%s resets the connection", async (_, fields) => {
		const { guest, stream, host } = await joined();
		const got = sink(host);
		guest.raw({ srcPort: stream.guestPort, dstPort: stream.hostPort, ...fields }, Buffer.from("abcd"));
		await guest.until(() => stream.state === "reset" && got.closed, "the reset");
		expect(guest.driver.needsReset).toBe(false);
	});

	test.each([OP.RW, OP.RESPONSE, OP.SHUTDOWN, OP.CREDIT_UPDATE, OP.CREDIT_REQUEST, 99])(
		"op %i for an unknown connection is answered with a reset",
		async (op) => {
			const { guest } = await started();
			guest.raw({ srcPort: 5, dstPort: 6, op });
			await guest.until(() => guest.heard.length > 0, "the answer");
			expect(guest.heard[0]).toMatchObject({ op: OP.RST, hostPort: 6, guestPort: 5 });
		},
	);

	test("a reset for an unknown connection is not answered", async () => {
		const { guest } = await started();
		guest.raw({ op: OP.RST });
		await guest.settle();
		expect(guest.heard).toEqual([]);
	});

	test("a guest that overruns its credit is reset", async () => {
		const { guest, stream, host } = await joined();
		const fields = { srcPort: stream.guestPort, dstPort: stream.hostPort };
		const closed = new Promise((resolve) => host.once("close", resolve));
		for (let i = 0; i < 5; i++) guest.raw(fields, Buffer.alloc(64 * 1024));
		await guest.until(() => stream.state === "reset", "the reset");
		await closed;
	});

	test("bytes after SHUTDOWN_SEND reset the connection", async () => {
		const { guest, stream } = await joined();
		stream.finish = SEND;
		await guest.settle();
		guest.raw({ srcPort: stream.guestPort, dstPort: stream.hostPort }, Buffer.from("more"));
		await guest.until(() => stream.state === "reset", "the reset");
	});

	test("lies about credit move no byte more than receive buffers allow, and nothing breaks", async () => {
		const { guest, stream, host } = await joined();
		const fields = { srcPort: stream.guestPort, dstPort: stream.hostPort, op: OP.CREDIT_UPDATE };
		guest.raw({ ...fields, bufAlloc: 0xffffffff, fwdCnt: 0xffffffff });
		stream.bufAlloc = 1 << 30;
		host.write(Buffer.alloc(300_000));
		await guest.until(() => stream.receivedBytes === 300_000, "the bytes");
		guest.raw({ ...fields, bufAlloc: 0, fwdCnt: 5 });
		host.write("x");
		await guest.settle();
		expect(stream.state).toBe("established");
	});

	test("receive buffers too short for a header come back empty", async () => {
		const { guest, driver, stream, host } = await joined();
		const before = driver.queue(0).outstanding;
		for (let i = 0; i < before; i++) host.write(`${i};`);
		await guest.settle();
		const short = driver.queue(0).add([{ write: true, length: 43 }]);
		const none = driver.queue(0).add([{ write: false, length: 100 }]);
		driver.queue(0).kick();
		for (let i = 0; i < 64; i++) host.write("y");
		const seen: [number, number][] = [];
		for (let i = 0; i < 200 && seen.length < 2; i++) {
			for (const used of driver.queue(0).collect()) {
				if (used.head === short || used.head === none) seen.push([used.head, used.written]);
			}
			await new Promise((resolve) => setImmediate(resolve));
		}
		expect(seen).toEqual([
			[short, 0],
			[none, 0],
		]);
		expect(stream.state).toBe("established");
		expect(driver.needsReset).toBe(false);
	});

	test("a guest that gives no receive buffers must wait with what asks for resets", async () => {
		const { guest, driver } = await started({}, { rxBuffers: 0 });
		for (let i = 0; i < 1000; i++) {
			if (driver.queue(1).outstanding < 250) guest.raw({ srcPort: i, op: OP.RW });
			driver.queue(1).collect();
			if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
		}
		expect(driver.queue(1).outstanding).toBeGreaterThan(200);
	});

	test("connections beyond the limit are reset", async () => {
		const { guest, backend } = await started();
		backend.listen(7, (stream) => stream.on("error", () => undefined));
		let resets = 0;
		for (let i = 0; i < 1100; i++) {
			guest.raw({ srcPort: i + 1, dstPort: 7, op: OP.REQUEST });
			if (i % 20 === 0) guest.poll();
		}
		await guest.settle(60);
		resets = guest.ops().filter((op) => op === OP.RST).length;
		expect(resets).toBe(1100 - 1024);
		const later = guest.heard.filter((h) => h.op === OP.RESPONSE).at(-1)!;
		expect(later.bufAlloc).toBe(64 * 1024);
	}, 20_000);

	test("a broken ring asks for a reset and the streams end with it", async () => {
		const { driver, host } = await joined();
		const got = sink(host);
		driver.queue(1).rawAvailable(60_000);
		driver.queue(1).rawKick();
		expect(driver.needsReset).toBe(true);
		driver.reset();
		await new Promise((resolve) => setTimeout(resolve, 10));
		expect(got.closed).toBe(true);
	});
});

describe("VsockDevice reset in mid-flight", () => {
	test("all streams end, and the device works again", async () => {
		const { backend, device, driver, guest, stream, host } = await joined();
		const got = sink(host);
		host.write(Buffer.alloc(1 << 20));
		stream.write(Buffer.alloc(1 << 20));
		guest.poll();
		guest.listening.add(9);
		const pending = backend.connect(9).then(
			() => "connected",
			(error) => error.code,
		);
		driver.reset();
		expect(await pending).toBe("ERR_VSOCK_REFUSED");
		await new Promise((resolve) => setTimeout(resolve, 10));
		expect(got.closed).toBe(true);
		const again = new GuestVsock(new FakeDriver(device, { ram: new FakeRam([[0, 8 << 20]]) }).start());
		const second = again.connect(52);
		await again.until(() => second.state === "established", "the new connection");
	});

	test("a connection that the backend opens after the reset is destroyed", async () => {
		let settle: (stream: Duplex) => void = () => undefined;
		const backend = await UnixVsock.open();
		backend.open = () => new Promise((resolve) => (settle = resolve));
		const device = new VsockDevice(CID, backend);
		open.push(device);
		const driver = new FakeDriver(device, { ram: new FakeRam([[0, 8 << 20]]) }).start();
		const guest = new GuestVsock(driver);
		guest.connect(52);
		driver.reset();
		const { duplexPair } = await import("../../src/backends/duplex-pair.ts");
		const [ours, theirs] = duplexPair();
		settle(theirs);
		await new Promise((resolve) => setTimeout(resolve, 10));
		expect([theirs.destroyed, ours.destroyed]).toEqual([true, true]);
	});
});
