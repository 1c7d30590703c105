import { expect, test } from "vitest";
import { RngDevice } from "../../src/virtio/rng.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { readable, writable } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { deviceSuite } from "./device-suite.ts";
import { stateSuite } from "./state-suite.ts";

test("RngDevice fills every writable buffer with bytes that differ each time", async () => {
	const driver = new FakeDriver(new RngDevice()).start();
	const first = await driver.queue(0).request([writable(32), writable(64)]);
	const second = await driver.queue(0).request([writable(32), writable(64)], true);
	expect(first.written).toBe(96);
	expect(second.written).toBe(96);
	expect(first.data).not.toEqual(second.data);
	expect(first.data.filter((b) => b === 0).length).toBeLessThan(30);
	expect(driver.interrupts).toBe(2);
});

test("RngDevice gives at most 64 KiB for one request", async () => {
	const ram = new FakeRam([[0, 1 << 20]]);
	const driver = new FakeDriver(new RngDevice(), { ram }).start();
	const used = await driver.queue(0).request([writable(40_000), writable(40_000)]);
	expect(used.written).toBe(65_536);
	expect(used.data.subarray(65_536).every((b) => b === 0)).toBe(true);
});

test("RngDevice returns a buffer that it cannot write with no bytes in it", async () => {
	const driver = new FakeDriver(new RngDevice()).start();
	const used = await driver.queue(0).request([readable("0123456789")]);
	expect(used.written).toBe(0);
	expect(driver.needsReset).toBe(false);
});

test("RngDevice works again after a reset", async () => {
	const driver = new FakeDriver(new RngDevice()).start();
	await driver.queue(0).request([writable(8)]);
	driver.reset();
	driver.start();
	expect((await driver.queue(0).request([writable(8)])).written).toBe(8);
});

deviceSuite({ name: "RngDevice", make: () => new RngDevice(), eager: [0] });

stateSuite({
	name: "RngDevice",
	make: () => new RngDevice(),
	busy: async (driver) => {
		for (let i = 0; i < 5; i++) await driver.queue(0).request([writable(16)]);
		driver.queue(0).add([writable(16)]);
	},
});

test("RngDevice answers in the restored machine what was asked in the saved one", async () => {
	const driver = new FakeDriver(new RngDevice()).start();
	await driver.queue(0).request([writable(8)]);
	await driver.transport.quiesce();
	const head = driver.queue(0).add([writable(8)]);
	driver.queue(0).rawKick();
	await driver.moveTo(new RngDevice());
	expect((await driver.queue(0).next(head)).written).toBe(8);
});
