import { expect, test } from "vitest";
import type { ConsoleBackend, ConsoleEvents } from "../../src/backends/contract.ts";
import { ConsoleDevice } from "../../src/virtio/console.ts";
import { VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { readable, writable } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { deviceSuite } from "./device-suite.ts";

const RECEIVEQ = 0;
const TRANSMITQ = 1;

/** A terminal that a test types on. */
class FakeTerminal implements ConsoleBackend {
	size: ConsoleBackend["size"] = { columns: 80, rows: 25 };
	output = "";
	/** What `write` answers. */
	room = true;
	inputWanted = true;
	closed = false;
	events!: ConsoleEvents;

	start(events: ConsoleEvents): void {
		this.events = events;
	}
	write(bytes: Uint8Array): boolean {
		this.output += Buffer.from(bytes).toString("latin1");
		return this.room;
	}
	setInputWanted(wanted: boolean): void {
		this.inputWanted = wanted;
	}
	type(text: string): void {
		this.events.input(Buffer.from(text, "latin1"));
	}
	async close(): Promise<void> {
		this.closed = true;
	}
}

function started() {
	const terminal = new FakeTerminal();
	const driver = new FakeDriver(new ConsoleDevice(terminal), { ram: new FakeRam([[0, 4 << 20]]) }).start();
	return { terminal, driver, receiveq: driver.queue(RECEIVEQ), transmitq: driver.queue(TRANSMITQ) };
}

const text = (data: Uint8Array, length: number) => Buffer.from(data.subarray(0, length)).toString("latin1");

test("ConsoleDevice writes what the guest sends, in order and from several buffers", async () => {
	const { terminal, transmitq } = started();
	transmitq.add([readable("hello, "), readable("wor")]);
	transmitq.add([readable("ld\n")], true);
	transmitq.kick();
	expect(transmitq.collect().map((u) => u.written)).toEqual([0, 0]);
	expect(terminal.output).toBe("hello, world\n");
});

test("ConsoleDevice gives input to the guest's buffers, and keeps what comes before there are any", async () => {
	const { terminal, driver, receiveq } = started();
	terminal.type("early ");
	terminal.type("bird");
	expect(driver.interrupts).toBe(0);
	const first = await receiveq.request([writable(4), writable(3)]);
	expect(text(first.data, first.written)).toBe("early b");
	const second = await receiveq.request([writable(64)], true);
	expect(text(second.data, second.written)).toBe("ird");
	receiveq.add([writable(64)]);
	receiveq.kick();
	expect(receiveq.collect()).toEqual([]);
	terminal.type("late");
	const [third] = receiveq.collect();
	expect(text(third!.data, third!.written)).toBe("late");
});

test("ConsoleDevice asks the backend to wait when the guest does not read, and loses nothing", async () => {
	const { terminal, receiveq } = started();
	let typed = "";
	while (terminal.inputWanted) {
		const line = `line ${typed.length}\n`;
		typed += line;
		terminal.type(line);
	}
	expect(typed.length).toBeGreaterThanOrEqual(64 * 1024);
	expect(typed.length).toBeLessThan(65 * 1024);
	let read = "";
	while (read.length < typed.length) {
		const used = await receiveq.request([writable(4096)]);
		read += text(used.data, used.written);
	}
	expect(read).toBe(typed);
	expect(terminal.inputWanted).toBe(true);
});

test("ConsoleDevice leaves output in the queue while the backend has no room", async () => {
	const { terminal, transmitq } = started();
	terminal.room = false;
	for (const part of ["one ", "two ", "three"]) transmitq.add([readable(part)]);
	transmitq.kick();
	expect(transmitq.collect()).toHaveLength(1);
	expect(terminal.output).toBe("one ");
	terminal.room = true;
	terminal.events.writable();
	expect(transmitq.collect()).toHaveLength(2);
	expect(terminal.output).toBe("one two three");
});

test("ConsoleDevice holds no more than a buffer, however much the guest sends to a terminal that nobody reads", () => {
	const { terminal, transmitq } = started();
	terminal.room = false;
	let sent = 0;
	for (let i = 0; i < 64; i++) {
		transmitq.add([{ write: false, length: 32_768, gpa: 1 << 20 }]);
		sent += 32_768;
		transmitq.kick();
	}
	expect([sent, terminal.output.length, transmitq.collect().length]).toEqual([2 << 20, 32_768, 1]);
	terminal.room = true;
	terminal.events.writable();
	expect([terminal.output.length, transmitq.collect().length]).toEqual([2 << 20, 63]);
});

test("ConsoleDevice ends a turn by bytes, and goes on in the next one", async () => {
	const { terminal, transmitq } = started();
	let written = 0;
	terminal.write = (bytes) => {
		written += bytes.length;
		return true;
	};
	for (let i = 0; i < 60; i++) transmitq.add([{ write: false, length: 1 << 20, gpa: 1 << 20 }]);
	transmitq.kick();
	expect(written).toBe(16 << 20);
	await expect.poll(() => written).toBe(60 << 20);
});

test("ConsoleDevice takes few emergency writes while its terminal has no room, and all of them later", () => {
	const { terminal, driver, transmitq } = started();
	const emergency = (count: number) => {
		for (let i = 0; i < count; i++) driver.transport.write(VIRTIO_MMIO.Config + 8, 4, 0x2e);
	};
	terminal.room = false;
	emergency(100_000);
	expect(terminal.output.length).toBe(4097);
	/* The queue waits for the same room. */
	transmitq.add([readable("waits")]);
	transmitq.kick();
	expect(terminal.output.length).toBe(4097);
	terminal.room = true;
	terminal.events.writable();
	emergency(10_000);
	expect(terminal.output.length).toBe(4097 + 5 + 10_000);
});

test("ConsoleDevice says its size, and tells the driver when that changes", () => {
	const { terminal, driver } = started();
	expect([...driver.config(0, 4)]).toEqual([80, 0, 25, 0]);
	const generation = driver.read(VIRTIO_MMIO.ConfigGeneration);
	terminal.events.resized(300, 50);
	expect(driver.acknowledge()).toBe(2);
	expect([...driver.config(0, 4)]).toEqual([300 & 0xff, 1, 50, 0]);
	expect(driver.read(VIRTIO_MMIO.ConfigGeneration)).not.toBe(generation);
});

test("ConsoleDevice without a terminal offers no size and takes no offence at one", () => {
	const terminal = new FakeTerminal();
	terminal.size = undefined;
	const driver = new FakeDriver(new ConsoleDevice(terminal)).start();
	expect(driver.deviceFeatures() & 1n).toBe(0n);
	terminal.events.resized(80, 25);
	expect(driver.interrupts).toBe(0);
});

test("ConsoleDevice prints emergency writes, one character each", () => {
	const { terminal, driver } = started();
	for (const c of "panic") driver.transport.write(VIRTIO_MMIO.Config + 8, 4, c.charCodeAt(0) | 0x4100);
	driver.transport.write(VIRTIO_MMIO.Config, 4, 0x41);
	expect(terminal.output).toBe("panic");
});

test("ConsoleDevice prints emergency writes before the driver has set any status, and takes no other write then", () => {
	const terminal = new FakeTerminal();
	const { transport } = new FakeDriver(new ConsoleDevice(terminal));
	expect(transport.status).toBe(0);
	for (const c of "early") transport.write(VIRTIO_MMIO.Config + 8, 4, c.charCodeAt(0));
	transport.write(VIRTIO_MMIO.Config, 2, 200);
	expect([terminal.output, transport.read(VIRTIO_MMIO.Config, 2)]).toEqual(["early", 80]);
});

test("ConsoleDevice keeps input over a reset and closes its backend", async () => {
	const { terminal, driver, receiveq } = started();
	receiveq.add([writable(64)]);
	receiveq.kick();
	driver.reset();
	terminal.type("kept");
	expect(receiveq.usedIdx).toBe(0);
	driver.start();
	const used = await driver.queue(RECEIVEQ).request([writable(64)]);
	expect(text(used.data, used.written)).toBe("kept");
	await driver.device.close();
	expect(terminal.closed).toBe(true);
});

test("ConsoleDevice takes at most 1 MiB of one buffer, however often its descriptors name the same RAM", () => {
	const { terminal, transmitq } = started();
	const same = { write: false, length: 3 << 18, gpa: 1 << 20 };
	transmitq.add([same, same, same]);
	transmitq.kick();
	expect(terminal.output.length).toBe(1 << 20);
	expect(transmitq.collect().length).toBe(1);
});

deviceSuite({ name: "ConsoleDevice", make: () => new ConsoleDevice(new FakeTerminal()), eager: [TRANSMITQ] });
