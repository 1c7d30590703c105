import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { TapBackend } from "../../src/backends/tap.ts";
import { ignore } from "../../src/base/errors.ts";
import { GuestMemory } from "../../src/base/guest-memory.ts";
import { Segments } from "../../src/base/segments.ts";
import { GuestRam } from "../../src/host/ram.ts";
import { RecordedEnter } from "../driver/recorded-enter.ts";
import { bytesOf, segmentsOf } from "./segments-of.ts";

const TAP = `tst${process.pid % 100_000}`;
const HOST = "10.231.77.1";
const GUEST = "10.231.77.2";
const GUEST_MAC = "525400123456";
const HEADER = 12;
const ip = (...args: string[]) => execFileSync("ip", args, { stdio: ["ignore", "pipe", "pipe"] });
const hexIp = (text: string) => Buffer.from(text.split(".").map(Number)).toString("hex");

beforeAll(() => {
	ip("tuntap", "add", TAP, "mode", "tap");
	ip("addr", "add", `${HOST}/24`, "dev", TAP);
	ip("link", "set", TAP, "up");
	ip("neigh", "replace", GUEST, "lladdr", "52:54:00:12:34:56", "dev", TAP, "nud", "permanent");
});
afterAll(() => {
	ip("link", "del", TAP);
});

const closers: (() => unknown)[] = [];
afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
});

function opened() {
	const tap = TapBackend.open(TAP);
	closers.push(() => tap.close());
	const calls = { readable: 0, writable: 0 };
	let wake: () => void = () => undefined;
	tap.start({
		readable: () => {
			calls.readable++;
			wake();
		},
		writable: () => {
			calls.writable++;
		},
		linkDown: () => undefined,
	});
	/** The next frame that `wanted` likes, header included. */
	const next = async (into: Segments, wanted: (frame: Buffer) => boolean): Promise<Buffer> => {
		const late = setTimeout(() => wake(), 3000);
		const end = performance.now() + 3000;
		try {
			while (performance.now() < end) {
				const length = tap.receive(into);
				if (length > 0) {
					const frame = bytesOf(into, length);
					if (wanted(frame)) return frame;
				} else {
					await new Promise<void>((resolve) => {
						wake = resolve;
					});
				}
			}
			throw new Error("no such frame came");
		} finally {
			clearTimeout(late);
		}
	};
	return { tap, calls, next };
}

async function bound(): Promise<Socket> {
	const socket = createSocket("udp4");
	await new Promise<void>((resolve) => socket.bind(0, HOST, resolve));
	closers.push(() => new Promise<void>((resolve) => socket.close(() => resolve())));
	return socket;
}

/** An IPv4 UDP frame of the guest, with a partial checksum for the host to complete when `partial`. */
function udpFrame(port: number, payload: Buffer, partial = false): Buffer {
	const hostMac = execFileSync("cat", [`/sys/class/net/${TAP}/address`], { encoding: "latin1" }).trim();
	const udp = Buffer.alloc(8);
	udp.writeUInt16BE(4000, 0);
	udp.writeUInt16BE(port, 2);
	udp.writeUInt16BE(8 + payload.length, 4);
	const head = Buffer.from(`45000000000040004011 0000${hexIp(GUEST)}${hexIp(HOST)}`.replaceAll(" ", ""), "hex");
	head.writeUInt16BE(28 + payload.length, 2);
	head.writeUInt16BE(sum16(head) ^ 0xffff, 10);
	if (partial) {
		const pseudo = Buffer.from(`${hexIp(GUEST)}${hexIp(HOST)}00110000`, "hex");
		pseudo.writeUInt16BE(8 + payload.length, 10);
		udp.writeUInt16BE(sum16(pseudo), 6);
	}
	const ethernet = `${hostMac.replaceAll(":", "")}${GUEST_MAC}0800`;
	return Buffer.concat([Buffer.from(ethernet, "hex"), head, udp, payload]);
}

/** struct virtio_net_hdr. */
const PLAIN_HEADER = Buffer.alloc(HEADER);
const PARTIAL_HEADER = Buffer.from("010000000000220006000000", "hex");

function sum16(data: Buffer): number {
	let sum = 0;
	for (let i = 0; i < data.length; i += 2) sum += data.readUInt16BE(i);
	while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
	return sum;
}

const isUdpTo = (port: number) => (frame: Buffer) =>
	frame.length > HEADER + 42 &&
	frame.readUInt16BE(HEADER + 12) === 0x0800 &&
	frame[HEADER + 23] === 17 &&
	frame.readUInt16BE(HEADER + 36) === port;

describe("TapBackend", () => {
	test("what a receiver of frames throws is its machine's to catch", async () => {
		const recorded = new RecordedEnter();
		const tap = TapBackend.open(TAP, { enter: recorded.enter });
		closers.push(() => tap.close());
		tap.start({
			readable: () => {
				throw new Error("of the test");
			},
			writable: () => undefined,
			linkDown: () => undefined,
		});
		(await bound()).send(randomBytes(100), 4321, GUEST);
		await expect.poll(() => recorded.failures[0]).toBe(`tap ${TAP}: of the test`);
	});

	test("receive gives what the host sends to the guest", async () => {
		const { next } = opened();
		const socket = await bound();
		const payload = randomBytes(1000);
		socket.send(payload, 4321, GUEST);
		const frame = await next(segmentsOf(Buffer.alloc(2000), 100), isUdpTo(4321));
		expect(frame.subarray(HEADER, HEADER + 6).toString("hex")).toBe(GUEST_MAC);
		expect(frame.subarray(HEADER + 42).equals(payload)).toBe(true);
	});

	test("send reaches a socket of the host, with a checksum left to the host too", async () => {
		const { tap } = opened();
		const socket = await bound();
		const got: string[] = [];
		const both = new Promise<void>((resolve) => {
			socket.on("message", (message) => {
				got.push(message.toString());
				if (got.length === 2) resolve();
			});
		});
		expect(tap.send(segmentsOf(udpFrame(socket.address().port, Buffer.from("plain")), 10), PLAIN_HEADER)).toBe(true);
		tap.send(segmentsOf(udpFrame(socket.address().port, Buffer.from("partial"), true), 13), PARTIAL_HEADER);
		await both;
		expect(got.slice(0, 2)).toEqual(["plain", "partial"]);
	});

	test("frames go straight between the tap and memory with a host address", async () => {
		const { tap, next } = opened();
		const ram = GuestRam.map([{ gpa: 0, sizeBytes: 1 << 20 }]);
		closers.push(() => ram.close());
		const memory = new GuestMemory(ram.regions);
		const window = memory.windows[0]!;
		const into = new Segments();
		into.add(window, 4096, 50);
		into.add(window, 8192, 2000);
		const socket = await bound();
		const payload = randomBytes(900);
		socket.send(payload, 4321, GUEST);
		const frame = await next(into, isUdpTo(4321));
		expect(frame.subarray(HEADER + 42).equals(payload)).toBe(true);

		const answer = udpFrame(socket.address().port, payload);
		memory.write(100_000, answer);
		const from = new Segments();
		from.add(window, 100_000, 20);
		from.add(window, 100_020, answer.length - 20);
		const message = new Promise<Buffer>((resolve) => socket.once("message", resolve));
		expect(tap.send(from, PLAIN_HEADER)).toBe(true);
		expect((await message).equals(payload)).toBe(true);
	});

	test("readable comes once until receive has given 0, then again", async () => {
		const { calls, next } = opened();
		const socket = await bound();
		const into = segmentsOf(Buffer.alloc(2000));
		socket.send("a", 4321, GUEST);
		socket.send("b", 4321, GUEST);
		await new Promise((resolve) => setTimeout(resolve, 50));
		expect(calls.readable).toBe(1);
		await next(into, isUdpTo(4321));
		await next(into, isUdpTo(4321));
		socket.send("c", 4321, GUEST);
		await next(into, (frame) => isUdpTo(4321)(frame) && frame.at(-1) === 99);
		expect(calls.readable).toBe(2);
	});

	test("a frame that is none is dropped, not an error", () => {
		const { tap } = opened();
		expect(tap.send(segmentsOf(Buffer.alloc(5)), PLAIN_HEADER)).toBe(true);
		expect(tap.send(segmentsOf(Buffer.alloc(100, 0xff)), PLAIN_HEADER)).toBe(true);
	});

	test("setGuestOffloads is accepted in every combination", () => {
		const { tap } = opened();
		for (const [csum, tso, ecn] of [
			[true, true, true],
			[true, true, false],
			[true, false, false],
			[false, false, false],
		] as const) {
			expect(() => tap.setGuestOffloads({ csum, tso, ecn })).not.toThrow();
		}
		expect([tap.mtu, tap.offloads.vnetHeader]).toEqual([1500, true]);
	});

	test("offers no offloads when told so, and frames still have their header", async () => {
		const tap = TapBackend.open(TAP, { offload: false });
		closers.push(() => tap.close());
		const { vnetHeader, ...offloads } = tap.offloads;
		expect([vnetHeader, Object.values(offloads)]).toEqual([true, [false, false, false, false]]);
	});

	test("open names a tap that is missing and how to make it, and makes none", () => {
		expect(() => TapBackend.open("tstmissing")).toThrow(
			expect.objectContaining({ code: "ERR_TAP_MISSING", hint: "Make it as root: ip tuntap add tstmissing mode tap" }),
		);
		expect(() => ip("link", "show", "tstmissing")).toThrow();
	});

	test("open says that a tap is busy", () => {
		opened();
		expect(() => TapBackend.open(TAP)).toThrow(expect.objectContaining({ code: "ERR_TAP_BUSY" }));
	});

	test("open says that an interface is no tap", () => {
		expect(() => TapBackend.open("lo")).toThrow(expect.objectContaining({ code: "ERR_TAP" }));
	});

	test.each(["", "a/b", "sixteencharslong", "..", "a b", "tap%d"])("open refuses the name %j", (name) => {
		expect(() => TapBackend.open(name)).toThrow(expect.objectContaining({ code: "ERR_TAP_NAME" }));
	});

	test("open says what a user without permission lacks", () => {
		const file = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
		const script = `
			const { TapBackend } = await import(${file("../../src/backends/tap.ts")});
			const { ioctl } = await import(${file("../../src/host/libc.ts")});
			ioctl(-1, 0, 0);
			process.setgroups([]); process.setgid(65534); process.setuid(65534);
			try { TapBackend.open(${JSON.stringify(TAP)}); } catch (error) { console.log(error.code, "|", error.message, "|", error.hint); }`;
		const args = ["--import", "tsx", "--input-type=module", "-e", script];
		const stdout = execFileSync(process.execPath, args, { encoding: "utf8", cwd: new URL("../..", import.meta.url) });
		expect(stdout).toMatch(
			/^ERR_TAP_PERMISSION \| Cannot use tap \w+: permission denied \| Make it as root: ip tuntap add/,
		);
	});

	test("a tap that is deleted under us gives no frames and no storm of events", async () => {
		const name = `${TAP}x`.slice(-15);
		ip("tuntap", "add", name, "mode", "tap");
		ip("link", "set", name, "up");
		const tap = TapBackend.open(name);
		closers.push(() => tap.close());
		let events = 0;
		const into = segmentsOf(Buffer.alloc(2000));
		tap.start({
			readable: () => {
				events++;
				while (tap.receive(into) > 0);
			},
			writable: () => undefined,
			linkDown: () => undefined,
		});
		await new Promise((resolve) => setTimeout(resolve, 20));
		ip("link", "del", name);
		await new Promise((resolve) => setTimeout(resolve, 300));
		expect(events).toBeLessThan(50);
		expect(tap.send(segmentsOf(Buffer.alloc(100)), PLAIN_HEADER)).toBe(true);
		await tap.close();
		await tap.close();
	});
});

describe("TapBackend.onBridge", () => {
	const BRIDGE = `brt${process.pid % 100_000}`;
	const onBridge = () =>
		(JSON.parse(`${ip("-j", "link", "show", "master", BRIDGE)}` || "[]") as { ifname: string }[]).map(
			({ ifname }) => ifname,
		);

	beforeAll(() => {
		ip("link", "add", BRIDGE, "mtu", "1400", "type", "bridge");
		ip("link", "set", BRIDGE, "up");
	});
	afterAll(() => {
		ip("link", "del", BRIDGE);
	});

	test("makes a tap on a bridge with its MTU, and takes it away", async () => {
		const one = TapBackend.onBridge(BRIDGE);
		const two = TapBackend.onBridge(BRIDGE);
		for (const tap of [one, two]) tap.start({ readable: ignore, writable: ignore, linkDown: ignore });
		expect(one.name).toMatch(/^tsvmm\d+$/);
		expect(one.mtu).toBe(1400);
		expect(onBridge().sort()).toEqual([one.name, two.name].sort());
		await Promise.all([one.close(), two.close()]);
		await expect.poll(onBridge).toEqual([]);
	});

	test("refuses what is no bridge, and leaves no tap", () => {
		const taps = () => `${ip("-br", "link")}`.match(/^tsvmm\d+/gm);
		const before = taps();
		expect(() => TapBackend.onBridge("nobridge")).toThrow(expect.objectContaining({ code: "ERR_BRIDGE_MISSING" }));
		expect(() => TapBackend.onBridge("lo")).toThrow(expect.objectContaining({ code: "ERR_BRIDGE" }));
		expect(() => TapBackend.onBridge("../x")).toThrow(expect.objectContaining({ code: "ERR_TAP_NAME" }));
		expect(taps()).toEqual(before);
	});
});
