import { expect, test } from "vitest";
import { BlockDevice } from "../../src/virtio/block.ts";
import { readChain } from "../driver/block-chains.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { SlowDisk } from "../driver/slow-disk.ts";

test("an observer sees a request of the block device from the kick to the interrupt", async () => {
	const disk = new SlowDisk(65_536);
	const driver = new FakeDriver(new BlockDevice(disk)).start();
	const heard: unknown[][] = [];
	const leave = driver.observers.attach({
		kick: (...event) => heard.push(["kick", ...event]),
		pop: (device, queue, { head, readable, writable }) =>
			heard.push(["pop", device, queue, head, readable.totalBytes, writable.totalBytes]),
		push: (...event) => heard.push(["push", ...event]),
		complete: (...event) => heard.push(["complete", ...event]),
		interrupt: (...event) => heard.push(["interrupt", ...event]),
	});
	const head = driver.queue(0).add(readChain(0, 512));
	driver.queue(0).kick();
	disk.answer();
	await driver.queue(0).next(head);
	expect(heard.splice(0)).toEqual([
		["kick", "virtio-blk0", 0],
		["pop", "virtio-blk0", 0, head, 16, 513],
		["complete", "virtio-blk0", head, "ok"],
		["push", "virtio-blk0", 0, head, 513],
		["interrupt", "virtio-blk0", 1],
	]);
	leave();
	driver.queue(0).add(readChain(0, 512));
	driver.queue(0).kick();
	expect(heard).toEqual([]);
});

test("an observer sees the device status as the driver will read it", () => {
	const driver = new FakeDriver(new BlockDevice(new SlowDisk(65_536)));
	const seen: number[] = [];
	driver.observers.attach({ status: (_device, status) => seen.push(status) });
	driver.start();
	expect(seen).toEqual([0, 1, 3, 11, 15]);
});
