import { expect, test } from "vitest";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { virtio_blk_config } from "../../src/virtio/block-request.ts";
import { pattern, readChain, status, writeChain } from "../driver/block-chains.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { SlowDisk } from "../driver/slow-disk.ts";

const OK = 0;
const IOERR = 1;
const CONFIG_CHANGED = 2;
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function started() {
	const disk = new SlowDisk(8 * 512);
	const device = new BlockDevice(disk);
	const driver = new FakeDriver(device).start();
	const capacity = () => Buffer.from(driver.config(0, 8)).readBigUInt64LE(virtio_blk_config.capacity);
	return { disk, device, driver, queue: driver.queue(0), capacity };
}

test("BlockDevice.replaceBackend tells the driver of the new capacity and closes the old backend", async () => {
	const { disk, device, driver, queue, capacity } = started();
	const other = new MemoryDisk(32 * 512);
	await device.replaceBackend(other);
	expect([disk.closed, device.backend]).toEqual([true, other]);
	expect(driver.acknowledge()).toBe(CONFIG_CHANGED);
	expect(capacity()).toBe(32n);
	expect(status(await queue.request(writeChain(31, pattern(7))))).toBe(OK);
	expect(other.bytes.subarray(31 * 512)).toEqual(pattern(7));
	await device.replaceBackend(new MemoryDisk(512));
	expect(status(await queue.request(writeChain(1, pattern(7))))).toBe(IOERR);
});

test("BlockDevice.replaceBackend lets the old backend answer what it has, and keeps what is new", async () => {
	const { disk, device, queue } = started();
	const other = new MemoryDisk(8 * 512);
	other.bytes.fill(9);
	queue.add(writeChain(0, pattern(1)));
	queue.kick();
	const replaced = device.replaceBackend(other);
	queue.add(readChain(1, 512));
	queue.kick();
	await turn();
	expect([disk.held.length, disk.closed, queue.collect()]).toEqual([1, false, []]);
	disk.answer();
	await replaced;
	await turn();
	const used = queue.collect();
	expect(used.map(status)).toEqual([OK, OK]);
	expect(disk.bytes.subarray(0, 512)).toEqual(pattern(1));
	expect(used[1]!.data[0]).toBe(9);
	/* A backend that was replaced says something all the same. */
	disk.answerToken(0);
	expect(status(await queue.request(readChain(1, 512)))).toBe(OK);
});

test("BlockDevice.replaceBackend serves what is new also where the old backend is polled meanwhile", async () => {
	const { disk, device, queue } = started();
	const polled = Object.assign(disk, { poll: () => disk.answer() });
	queue.add(writeChain(0, pattern(1)));
	queue.kick();
	const replaced = device.replaceBackend(new MemoryDisk(8 * 512));
	queue.add(readChain(1, 512));
	queue.kick();
	device.collect();
	if (polled.held.length > 0) disk.answer();
	await replaced;
	await turn();
	expect(queue.collect().map(status)).toEqual([OK, OK]);
	queue.add(writeChain(0, pattern(1)));
	queue.kick();
	expect(queue.collect().map(status)).toEqual([OK]);
});

test("BlockDevice.collect answers what its backend has done", () => {
	const { disk, device, queue } = started();
	Object.assign(disk, { poll: () => disk.answer() });
	device.collect();
	queue.add(writeChain(0, pattern(1)));
	queue.kick();
	expect(queue.collect()).toEqual([]);
	device.collect();
	expect(queue.collect().map(status)).toEqual([OK]);
});

test("BlockDevice.replaceBackend waits for requests that a reset has overtaken", async () => {
	const { disk, device, driver, queue } = started();
	queue.add(writeChain(0, pattern(1)));
	queue.kick();
	const replaced = device.replaceBackend(new MemoryDisk(512));
	const reset = driver.resetSlowly();
	await turn();
	expect(disk.closed).toBe(false);
	disk.answer();
	await Promise.all([replaced, reset]);
	expect(disk.closed).toBe(true);
});

test("BlockDevice.replaceBackend refuses a read-only disk for a writable one, and a second at once", async () => {
	const { disk, device, queue } = started();
	const code = "ERR_DISK_REPLACE";
	await expect(device.replaceBackend(new MemoryDisk(512, true))).rejects.toMatchObject({ code });
	queue.add(writeChain(0, pattern(1)));
	queue.kick();
	const replaced = device.replaceBackend(new MemoryDisk(512));
	await expect(device.replaceBackend(new MemoryDisk(512))).rejects.toMatchObject({ code });
	disk.answer();
	await replaced;
});

test("BlockDevice stays read-only when a writable disk takes its place", async () => {
	const device = new BlockDevice(new MemoryDisk(512, true));
	const driver = new FakeDriver(device).start();
	const other = new MemoryDisk(512);
	await device.replaceBackend(other);
	expect(status(await driver.queue(0).request(writeChain(0, pattern(1))))).toBe(IOERR);
	expect(other.bytes).toEqual(new Uint8Array(512));
});

test("BlockDevice.close closes both backends when one is about to be replaced", async () => {
	const { disk, device, queue } = started();
	queue.add(writeChain(0, pattern(1)));
	queue.kick();
	const other = new SlowDisk(512);
	const replaced = device.replaceBackend(other);
	await device.close();
	await replaced;
	expect([disk.closed, other.closed]).toEqual([true, true]);
	const late = new SlowDisk(512);
	await expect(device.replaceBackend(late)).rejects.toMatchObject({ code: "ERR_DISK_REPLACE" });
	expect(late.closed).toBe(false);
});
