import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { MacAddress } from "../../src/base/mac.ts";
import type { Segments } from "../../src/base/segments.ts";
import {
	NetDevice,
	VIRTIO_NET_F_GUEST_TSO6,
	VIRTIO_NET_F_MRG_RXBUF,
	VIRTIO_NET_F_MTU,
	virtio_net_config,
} from "../../src/virtio/net.ts";
import { INTERRUPT_CONFIG_CHANGE } from "../../src/virtio/spec.ts";
import { type DriverOptions, FakeDriver } from "../driver/fake-driver.ts";
import { type FakeQueue, type Part, readable, writable } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { deviceSuite } from "./device-suite.ts";
import { FakeNet, FULL, PLAIN } from "./fake-net.ts";

const MAC = MacAddress.parse("52:54:00:01:02:03");
const HEADER = 12;
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const frameOf = (length: number) => randomBytes(length);
const headed = (frame: Uint8Array, header = Buffer.alloc(HEADER)) => Buffer.concat([header, frame]);

/** Chains of `addLong` that end a turn: 4096 descriptors. */
const PER_TURN = 64;
/** Adds a chain of 64 descriptors: all bytes in the first, the others are empty. */
function addLong(queue: FakeQueue, bytes: Uint8Array): void {
	queue.add([readable(bytes), ...Array<Part>(63).fill({ write: false, length: 0, gpa: 0 })], true);
}

function started(net = new FakeNet(), options: DriverOptions = {}) {
	const ram = new FakeRam([[0, 4 << 20]]);
	const driver = new FakeDriver(new NetDevice(net, MAC), { ram, ...options }).start();
	return { net, driver, rx: driver.queue(0), tx: driver.queue(1) };
}

describe.each([
	{ eventIdx: true, indirect: true },
	{ eventIdx: false, indirect: false },
])("NetDevice with %o", (options) => {
	test("transmit hands over the frame without the header", async () => {
		const { net, tx } = started(new FakeNet(), options);
		const frame = frameOf(100);
		const used = await tx.request([readable(headed(frame).subarray(0, 5)), readable(headed(frame).subarray(5))]);
		expect(used.written).toBe(0);
		expect(net.sent).toEqual([frame]);
	});

	test("receive puts a zero header with num_buffers 1 in front", async () => {
		const { net, rx } = started(new FakeNet(), options);
		const frame = frameOf(777);
		rx.add([writable(7), writable(1600)], options.indirect);
		rx.kick();
		net.arrive(frame);
		const used = await rx.next();
		expect(used.written).toBe(HEADER + 777);
		expect(used.data.subarray(0, HEADER)).toEqual(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0));
		expect(frame.equals(used.data.subarray(HEADER, used.written))).toBe(true);
	});
});

describe("NetDevice", () => {
	test("config has MAC, link up and MTU", () => {
		const { driver } = started(new FakeNet(PLAIN, 9000));
		expect([...driver.config(0, 12)]).toEqual([...MAC.bytes, 1, 0, 1, 0, 9000 & 0xff, 9000 >> 8]);
		expect(driver.deviceFeatures() & VIRTIO_NET_F_MTU).toBe(VIRTIO_NET_F_MTU);
	});

	test("features follow what the backend can do", () => {
		const low = (net: FakeNet) => new NetDevice(net, MAC).features;
		const bits = (...list: number[]) => list.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
		expect(low(new FakeNet())).toBe(bits(5, 15, 16));
		expect(low(new FakeNet(FULL))).toBe(bits(0, 1, 5, 7, 8, 9, 11, 12, 13, 15, 16));
		expect(low(new FakeNet({ ...FULL, csum: false, guestCsum: false }))).toBe(bits(5, 15, 16));
	});

	test("setGuestOffloads says what the driver accepted", () => {
		expect(started(new FakeNet(FULL)).net.guestOffloads).toEqual({ csum: true, tso: true, ecn: true });
		const partly = started(new FakeNet(FULL), { without: VIRTIO_NET_F_GUEST_TSO6 });
		expect(partly.net.guestOffloads).toEqual({ csum: true, tso: false, ecn: false });
		expect(started(new FakeNet()).net.guestOffloads).toEqual({ csum: false, tso: false, ecn: false });
	});

	test("a backend with vnetHeader gets and gives the header as it is", async () => {
		const { net, rx, tx } = started(new FakeNet(FULL));
		const header = Buffer.from("0101220064040e0010000000", "hex");
		const frame = headed(frameOf(2000), header);
		await tx.request([readable(frame)]);
		expect(net.sent).toEqual([frame]);
		for (let i = 0; i < 48; i++) rx.add([writable(1536)]);
		rx.kick();
		net.arrive(frame);
		const [first, second] = [await rx.next(), await rx.next()];
		expect(Buffer.from(first.data.subarray(0, 10)).equals(header.subarray(0, 10))).toBe(true);
		expect([first.data[10], first.data[11]]).toEqual([2, 0]);
		expect([first.written, second.written]).toEqual([1536, 2012 - 1536]);
	});

	test("a large frame fills several chains in order", async () => {
		const { net, rx } = started(new FakeNet(PLAIN, 65_520));
		const frame = frameOf(60_000);
		for (let i = 0; i < 50; i++) rx.add([writable(1500 + i)]);
		rx.kick();
		net.arrive(frame, frameOf(60));
		const all = rx.collect();
		const parts = all.slice(0, -1);
		expect(parts[0]!.data[10]).toBe(parts.length);
		const whole = Buffer.concat(parts.map((u) => u.data.subarray(0, u.written)));
		expect(whole.subarray(HEADER).equals(frame)).toBe(true);
		expect(all.at(-1)!.written).toBe(72);
	});

	test("a frame larger than the buffers at hand waits for more", async () => {
		const { net, rx } = started(new FakeNet(PLAIN, 65_520));
		const frame = frameOf(5000);
		rx.add([writable(2048)]);
		rx.kick();
		net.arrive(frame);
		expect(rx.collect()).toEqual([]);
		rx.add([writable(2048)]);
		rx.kick();
		expect(rx.collect()).toEqual([]);
		rx.add([writable(2048)]);
		rx.kick();
		const all = rx.collect();
		expect(all.map((u) => u.written)).toEqual([2048, 2048, 5012 - 4096]);
		const whole = Buffer.concat(all.map((u) => u.data.subarray(0, u.written)));
		expect(whole[10]).toBe(3);
		expect(whole.subarray(HEADER).equals(frame)).toBe(true);
	});

	test("a small frame does not wait for buffers that a large one would need", async () => {
		const { net, rx } = started(new FakeNet(FULL));
		rx.add([writable(256)]);
		rx.kick();
		net.arrive(headed(frameOf(64)));
		expect(rx.collect().map((u) => u.written)).toEqual([76]);
	});

	test("a driver without MRG_RXBUF gets one chain per frame, and nothing of what does not fit", async () => {
		const { net, rx } = started(new FakeNet(PLAIN, 9000), { without: VIRTIO_NET_F_MRG_RXBUF });
		for (let i = 0; i < 3; i++) rx.add([writable(1526)]);
		rx.kick();
		net.arrive(frameOf(1514), frameOf(1515), frameOf(60));
		expect(rx.collect().map((u) => u.written)).toEqual([1526, 72]);
	});

	test("a frame that all buffers of the ring cannot hold is dropped", async () => {
		const { net, rx } = started(new FakeNet(PLAIN, 9000), { queueSize: 4 });
		for (let i = 0; i < 4; i++) rx.add([writable(1500)]);
		rx.kick();
		net.arrive(frameOf(8000), frameOf(60));
		expect(rx.collect().map((u) => u.written)).toEqual([72]);
	});

	test("frames wait in the backend while the driver offers no buffer", async () => {
		const { net, rx } = started();
		net.arrive(frameOf(60), frameOf(61));
		expect([net.waiting, net.receives]).toEqual([2, 0]);
		rx.add([writable(2048)]);
		rx.kick();
		expect([net.waiting, rx.collect().map((u) => u.written)]).toEqual([1, [72]]);
		rx.add([writable(2048)]);
		rx.kick();
		expect(rx.collect().map((u) => u.written)).toEqual([73]);
		rx.add([writable(2048)]);
		rx.kick();
		net.arrive(frameOf(62));
		expect(rx.collect().map((u) => u.written)).toEqual([74]);
	});

	test("many frames take turns with the event loop and come in order", async () => {
		const { net, driver, rx, tx } = started();
		const frames = Array.from({ length: 40 }, (_, i) => Buffer.alloc(60, i));
		/* 16 MiB of buffers end a turn. */
		for (let i = 0; i < 40; i++) rx.add([{ write: true, length: 1 << 20, gpa: 1 << 20 }]);
		rx.kick();
		const before = driver.interrupts;
		net.arrive(...frames);
		expect([rx.collect().length, net.waiting]).toEqual([16, 24]);
		await turn();
		expect([rx.collect().length, net.waiting]).toEqual([16, 8]);
		await turn();
		expect([rx.collect().length, net.waiting]).toEqual([8, 0]);
		expect(driver.interrupts - before).toBe(3);
		for (const frame of frames) addLong(tx, headed(frame));
		for (const frame of frames) addLong(tx, headed(frame));
		tx.kick();
		expect(net.sent.length).toBe(PER_TURN);
		await turn();
		expect(net.sent.map((f) => f[0])).toEqual([...frames, ...frames].map((f) => f[0]));
	});

	test("frames of many buffers come in order, over the end of a turn", async () => {
		const { net, rx } = started();
		const frames = Array.from({ length: 80 }, (_, i) => Buffer.alloc(1000, i));
		/* The device holds two chains for a frame that may need both. */
		for (let i = 0; i < 80; i++) rx.add(Array<Part>(64).fill(writable(16)), true);
		rx.kick();
		net.arrive(...frames);
		const first = rx.collect();
		expect(first.length).toBe(PER_TURN - 1);
		await turn();
		expect([...first, ...rx.collect()].map((u) => u.data[HEADER])).toEqual(frames.map((f) => f[0]));
	});

	test.each([
		{ what: "that the driver's ring cannot hold", mtu: 9000, length: 8000 },
		{ what: "that the network must not carry", mtu: 1500, length: 4000 },
	])("frames $what are dropped by turns", async ({ mtu, length }) => {
		const { net, rx } = started(new FakeNet(PLAIN, mtu), { queueSize: 4 });
		for (let i = 0; i < 4; i++) rx.add([writable(1500)]);
		rx.kick();
		net.arrive(...Array<Buffer>(3000).fill(Buffer.alloc(length)), frameOf(60));
		expect(net.waiting).toBeGreaterThan(3000 - 1024);
		expect(net.waiting).toBeLessThan(2000);
		await turn();
		expect(net.waiting).toBeGreaterThan(3000 - 2048);
		await expect.poll(() => net.waiting).toBe(0);
		expect(rx.collect().map((u) => u.written)).toEqual([72]);
	});

	test("transmit holds what the backend has no room for, in order", async () => {
		const { net, tx } = started();
		net.room = 2;
		for (let i = 0; i < 5; i++) tx.add([readable(headed(Buffer.alloc(60, i)))]);
		tx.kick();
		expect(tx.collect().length).toBe(2);
		net.makeRoom(1);
		expect(tx.collect().length).toBe(1);
		net.makeRoom();
		expect(tx.collect().length).toBe(2);
		expect(net.sent.map((f) => f[0])).toEqual([0, 1, 2, 3, 4]);
	});

	test("a network that is gone drops the link and returns the chains that wait for room", () => {
		const { net, driver, rx, tx } = started();
		net.room = 1;
		for (let i = 0; i < 3; i++) tx.add([readable(headed(frameOf(60)))]);
		tx.kick();
		rx.add([writable(2048)]);
		rx.kick();
		expect(tx.collect().length).toBe(1);
		const link = () => driver.config(virtio_net_config.status, 2)[0];
		driver.acknowledge();
		expect(link()).toBe(1);
		net.loseLink();
		expect(tx.collect().length).toBe(2);
		expect([driver.acknowledge() & INTERRUPT_CONFIG_CHANGE, link()]).toEqual([INTERRUPT_CONFIG_CHANGE, 0]);
		driver.reset();
		expect(link()).toBe(0);
	});

	test("a reset leaves the backend without offloads, whatever the next driver takes", () => {
		const { net, driver } = started(new FakeNet(FULL));
		expect(net.guestOffloads).toEqual({ csum: true, tso: true, ecn: true });
		driver.reset();
		expect(net.guestOffloads).toEqual({ csum: false, tso: false, ecn: false });
	});

	test("close closes the backend", async () => {
		const { net, driver } = started();
		await driver.device.close();
		expect(net.closed).toBe(true);
	});
});

describe("NetDevice with a hostile driver", () => {
	test.each([
		["nothing", [writable(100)]],
		["a header only", [readable(Buffer.alloc(12))]],
		["less than an Ethernet header", [readable(Buffer.alloc(25))]],
		["more than the largest frame", [readable(Buffer.alloc(65_566))]],
	])("a chain with %s to send comes back unsent", async (_, parts) => {
		const { net, driver, tx } = started();
		const used = await tx.request(parts);
		expect([used.written, net.sent.length, driver.needsReset]).toEqual([0, 0, false]);
	});

	test("a frame with a wrong header comes back unsent, and the next one goes", async () => {
		const { net, driver, tx } = started(new FakeNet(FULL));
		/* A checksum at the end of 64 KiB. */
		const wrong = Buffer.from("0100000000000000ffff0000", "hex");
		const used = await tx.request([readable(headed(frameOf(100), wrong))]);
		expect([used.written, net.sent.length, driver.needsReset]).toEqual([0, 0, false]);
		const frame = headed(frameOf(100));
		await tx.request([readable(frame)]);
		expect(net.sent).toEqual([frame]);
	});

	test("receive buffers that are none come back empty and the frame goes to the next", async () => {
		const { net, rx } = started();
		rx.add([readable(Buffer.alloc(2000))]);
		rx.add([writable(11)]);
		rx.add([writable(2000)]);
		rx.kick();
		net.arrive(frameOf(60));
		expect(rx.collect().map((u) => u.written)).toEqual([0, 0, 72]);
	});

	test("12-byte buffers carry a frame piece by piece", async () => {
		const { net, rx } = started();
		for (let i = 0; i < 200; i++) rx.add([writable(12)]);
		rx.kick();
		const frame = frameOf(100);
		net.arrive(frame);
		const all = rx.collect();
		expect(all.length).toBe(10);
		expect(
			Buffer.concat(all.map((u) => u.data.subarray(0, u.written)))
				.subarray(12)
				.equals(frame),
		).toBe(true);
	});

	test("a broken ring asks for a reset and frames go nowhere", async () => {
		const { net, driver, rx } = started();
		rx.rawAvailable(9999);
		rx.rawKick();
		net.arrive(frameOf(60));
		expect(driver.needsReset).toBe(true);
	});
});

describe("NetDevice reset in mid-flight", () => {
	test("held chains of both directions are forgotten and a new driver works", async () => {
		const { net, driver, rx, tx } = started(new FakeNet(PLAIN, 9000));
		net.room = 0;
		tx.add([readable(headed(frameOf(60)))]);
		tx.kick();
		rx.add([writable(2000)]);
		rx.kick();
		net.arrive(frameOf(5000));
		const before = driver.ram.snapshot();
		driver.reset();
		net.makeRoom();
		net.arrive(frameOf(70));
		await turn();
		expect([net.sent.length, driver.ram.changes(before).length]).toEqual([0, 0]);
		const again = new FakeDriver(driver.device).start();
		again.queue(0).add([writable(2000)]);
		again.queue(0).kick();
		expect(
			again
				.queue(0)
				.collect()
				.map((u) => u.written),
		).toEqual([82]);
		await again.queue(1).request([readable(headed(frameOf(60)))]);
		expect(net.sent.length).toBe(1);
	});

	test("the rest of a batch is not touched after a reset", async () => {
		const { net, driver, tx } = started();
		for (let i = 0; i < 200; i++) addLong(tx, headed(frameOf(60)));
		tx.kick();
		driver.reset();
		await turn();
		expect(net.sent.length).toBe(PER_TURN);
	});
});

/** Sends every frame back to the guest it came from. */
class Loopback extends FakeNet {
	override send(frame: Segments): boolean {
		const taken = super.send(frame);
		for (const bytes of this.sent.splice(0)) this.arrive(bytes);
		return taken;
	}
}

deviceSuite({ name: "NetDevice", make: () => new NetDevice(new Loopback(), MAC), eager: [1] });
