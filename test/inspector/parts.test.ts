/* The parts of the inspector that keep what a page has not read yet: bounded, whatever the page and the guest do. */
import { EventEmitter } from "node:events";
import type { ServerResponse } from "node:http";
import { expect, test } from "vitest";
import type { ConsoleEvents } from "../../src/backends/contract.ts";
import { Activity } from "../../src/inspector/activity.ts";
import { BoundedLog } from "../../src/inspector/bounded-log.ts";
import { ConsoleTap } from "../../src/inspector/console-tap.ts";
import { Frames } from "../../src/inspector/frames.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { readChain } from "../driver/block-chains.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { SlowDisk } from "../driver/slow-disk.ts";

test("BoundedLog keeps the newest entries, and counts those that a reader has missed", () => {
	const log = new BoundedLog<number>(4);
	expect(log.since(0)).toEqual({ entries: [], missed: 0 });
	for (let i = 0; i < 10; i++) log.add(i);
	expect(log.since(0)).toEqual({ entries: [6, 7, 8, 9], missed: 6 });
	expect(log.since(8)).toEqual({ entries: [8, 9], missed: 0 });
	expect(log.since(10)).toEqual({ entries: [], missed: 0 });
	expect(log.since(99)).toEqual({ entries: [], missed: 0 });
});

/** A console of which one sees what it is asked. */
class RecordedConsole {
	text = "";
	wanted: boolean[] = [];
	events: ConsoleEvents | undefined;
	start(events: ConsoleEvents): void {
		this.events = events;
	}
	write(bytes: Uint8Array): boolean {
		this.text += Buffer.from(bytes).toString("latin1");
		return !this.text.endsWith("!");
	}
	setInputWanted(wanted: boolean): void {
		this.wanted.push(wanted);
	}
	async close(): Promise<void> {
		/* nothing was opened */
	}
}

test("ConsoleTap passes output on and keeps the newest 128 KiB of it", () => {
	const console = new RecordedConsole();
	const tap = new ConsoleTap(console);
	expect(tap.write(Buffer.from("one "))).toBe(true);
	expect(tap.write(Buffer.from("two!"))).toBe(false);
	expect(console.text).toBe("one two!");
	expect([tap.since(0).toString(), tap.since(4).toString(), tap.since(8).toString()]).toEqual(["one two!", "two!", ""]);
	const all = Array.from({ length: 50 }, (_, i) => String(i).padStart(5000, "."));
	for (const part of all) tap.write(Buffer.from(part));
	expect(tap.end).toBe(8 + 250_000);
	expect(tap.since(0).toString()).toBe(all.join("").slice(-128 * 1024));
	expect(tap.since(tap.end - 3).toString()).toBe(".49");
	tap.write(Buffer.alloc(300_000, "x"));
	expect(tap.since(0).toString()).toBe("x".repeat(128 * 1024));
});

test("ConsoleTap gives the page's input when the guest wants input, and refuses more than it can keep", () => {
	const console = new RecordedConsole();
	const tap = new ConsoleTap(console);
	const typed: string[] = [];
	expect(tap.type(Buffer.from("early"))).toBe(true);
	const input = (bytes: Uint8Array) => typed.push(Buffer.from(bytes).toString());
	tap.start({ input, writable: () => undefined, resized: () => undefined });
	tap.setInputWanted(false);
	expect(tap.type(Buffer.from("later"))).toBe(true);
	expect(tap.type(Buffer.alloc(20_000))).toBe(false);
	expect(typed).toEqual(["early"]);
	tap.setInputWanted(true);
	expect(typed).toEqual(["early", "later"]);
	expect(console.wanted).toEqual([false, true]);
	console.events!.input(Buffer.from("from the terminal"));
	expect(typed.at(-1)).toBe("from the terminal");
});

test("Activity counts requests and logs them with their times, until its period is full", async () => {
	const disk = new SlowDisk(1 << 20);
	const driver = new FakeDriver(new BlockDevice(disk)).start();
	const activity = new Activity();
	driver.observers.attach(activity);
	const name = driver.device.name;
	const ask = (sector: number) => driver.queue(0).request(readChain(sector, 512));
	const first = ask(7);
	expect(activity.queues.get(`${name}#0`)).toMatchObject({ kicks: 1, chains: 1, inFlight: 1, peak: 1, bytes: 529 });
	expect(activity.log.end).toBe(0);
	disk.answer();
	await first;
	const [entry] = activity.log.since(0).entries;
	expect(entry).toMatchObject({ device: name, queue: 0, readable: 16, writable: 513, written: 513 });
	expect(entry!.micros).toBeGreaterThanOrEqual(0);
	expect(entry).toMatchObject({ request: "VIRTIO_BLK_T_IN sector 7 512 bytes", answer: "VIRTIO_BLK_S_OK" });
	expect(activity.counts).toMatchObject({ kicks: 1, chains: 1, interrupts: 1 });
	for (let i = 0; i < 100; i++) {
		const done = ask(i);
		disk.answer();
		await done;
	}
	expect([activity.log.end, activity.left]).toEqual([40, 61]);
	activity.beginPeriod();
	const last = ask(1);
	disk.answer();
	await last;
	expect(activity.log.end).toBe(41);
	expect(activity.queues.get(`${name}#0`)).toMatchObject({ chains: 102, inFlight: 0 });
});

test("Activity forgets what was in flight when the driver resets its device", async () => {
	const activity = new Activity();
	const disk = new SlowDisk(1 << 20);
	const driver = new FakeDriver(new BlockDevice(disk)).start();
	driver.observers.attach(activity);
	void driver.queue(0).request(readChain(0, 512));
	expect(activity.queues.get(`${driver.device.name}#0`)!.inFlight).toBe(1);
	const reset = driver.resetSlowly();
	disk.answer();
	await reset;
	expect(activity.queues.get(`${driver.device.name}#0`)!.inFlight).toBe(0);
	expect(activity.log.since(0).entries.at(-1)).toMatchObject({ status: 0 });
});

/** A response whose reader stops and goes on when the test says so. */
class FakeResponse extends EventEmitter {
	lines: string[] = [];
	slow = false;
	writableEnded = false;
	writeHead(): this {
		return this;
	}
	write(line: string): boolean {
		this.lines.push(line.trim());
		return !this.slow;
	}
	end(line = ""): this {
		this.lines.push(line.trim());
		this.writableEnded = true;
		this.emit("close");
		return this;
	}
}

function framesTo(response: FakeResponse) {
	let count = 0;
	const frames = new Frames(
		() => ({ frame: ++count }),
		() => undefined,
	);
	frames.add(response as unknown as ServerResponse, { log: 0, console: 0, events: 0 }, { first: true });
	return frames;
}

test("Frames keeps nothing for a page that does not read, and goes on with the newest frame", () => {
	const response = new FakeResponse();
	const frames = framesTo(response);
	expect(response.lines).toEqual(['{"first":true}', '{"frame":1}']);
	response.slow = true;
	for (let i = 0; i < 1000; i++) frames.sendNow();
	expect(response.lines.slice(2)).toEqual(['{"frame":2}']);
	response.slow = false;
	response.emit("drain");
	frames.sendNow();
	expect(response.lines.at(-1)).toBe('{"frame":3}');
	frames.end({ ended: "done" });
	expect(response.lines.at(-1)).toBe('{"ended":"done"}');
});

test("Frames has room for eight pages: the ninth ends the oldest", () => {
	const frames = new Frames(
		() => ({}),
		() => undefined,
	);
	const pages = Array.from({ length: 9 }, () => new FakeResponse());
	for (const page of pages) frames.add(page as unknown as ServerResponse, { log: 0, console: 0, events: 0 }, {});
	expect(pages.map(({ writableEnded }) => writableEnded)).toEqual([true, ...Array(8).fill(false)]);
	frames.end({});
});
