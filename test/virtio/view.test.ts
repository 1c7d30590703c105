/* What a transport looks like from outside: a queue with chains in flight and chains that wait. */
import { expect, test } from "vitest";
import { BlockDevice } from "../../src/virtio/block.ts";
import { header as blockHeader, readChain } from "../driver/block-chains.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { SlowDisk } from "../driver/slow-disk.ts";

test("inspect shows a device that no driver has touched", () => {
	const driver = new FakeDriver(new BlockDevice(new SlowDisk(1 << 20)));
	const view = driver.transport.inspect();
	expect(view).toMatchObject({ name: driver.device.name, deviceId: 2, status: 0, driverFeatures: 0n });
	expect(view.config).toEqual(driver.device.config);
	expect(view.config).not.toBe(driver.device.config);
	expect(view.queues[0]).toMatchObject({ index: 0, ready: false, size: 0 });
	expect(view.queues[0]!.live).toBeUndefined();
});

test("inspect shows chains in flight with their buffers, and chains that wait for the device", async () => {
	const disk = new SlowDisk(1 << 20);
	const driver = new FakeDriver(new BlockDevice(disk), { queueSize: 16, indirect: false }).start();
	const request = () => driver.queue(0).request(readChain(0, 512));
	const first = request();
	const second = request();
	const { live } = driver.transport.inspect().queues[0]!;
	expect(live).toMatchObject({ availIdx: 2, nextAvail: 2, nextUsed: 0, usedIdx: 0, inFlight: 2, broken: false });
	expect(live!.chains).toHaveLength(2);
	const [header, data, status] = live!.chains[0]!.buffers;
	expect([header, data, status]).toMatchObject([
		{ bytes: 16, writable: false },
		{ bytes: 512, writable: true },
		{ bytes: 1, writable: true },
	]);
	/* The address is the guest's: what the driver has put there. */
	expect(driver.memory.bytes(header!.gpa, 16)).toEqual(new Uint8Array(blockHeader(0, 0)));
	expect(live!.waiting).toEqual([]);

	/* A device that is held takes no chain. */
	const held = driver.transport.quiesce();
	const third = request();
	const waiting = driver.transport.inspect().queues[0]!.live!;
	expect(waiting).toMatchObject({ availIdx: 3, nextAvail: 2, inFlight: 2 });
	expect(waiting.waiting).toHaveLength(1);
	expect(waiting.chains.map(({ head }) => head)).not.toContain(waiting.waiting[0]);
	disk.answer();
	disk.answer();
	await held;
	driver.transport.resume();
	disk.answer();
	await Promise.all([first, second, third]);
	const after = driver.transport.inspect().queues[0]!.live!;
	expect(after).toMatchObject({ availIdx: 3, nextAvail: 3, nextUsed: 3, usedIdx: 3, inFlight: 0, chains: [] });
});

test("inspect shows a queue whose driver broke the rules", () => {
	const driver = new FakeDriver(new BlockDevice(new SlowDisk(1 << 20))).start();
	driver.queue(0).rawAvailable(9999);
	driver.queue(0).rawKick();
	const view = driver.transport.inspect();
	expect(view.status & 64).toBe(64);
	expect(view.queues[0]!.live).toMatchObject({ broken: true, inFlight: 0 });
});
