import { expect, test } from "vitest";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { VIRTIO_BLK_F_MQ, virtio_blk_config } from "../../src/virtio/block-request.ts";
import { DRIVER_OK } from "../../src/virtio/spec.ts";
import { pattern, status, writeChain } from "../driver/block-chains.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { SlowDisk } from "../driver/slow-disk.ts";

const OK = 0;
const SECTORS = 256;

/** Lets the staged completions be published. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

test("BlockDevice offers several queues only when it has them, and says how many", () => {
	const [one, four] = [1, 4].map((queues) => new BlockDevice(new MemoryDisk(512), { queues }));
	expect([one!.features & VIRTIO_BLK_F_MQ, four!.features & VIRTIO_BLK_F_MQ]).toEqual([0n, VIRTIO_BLK_F_MQ]);
	expect(Buffer.from(four!.config).readUInt16LE(virtio_blk_config.num_queues)).toBe(4);
	expect(four!.queueSizes).toEqual([256, 256, 256, 256]);
});

test("BlockDevice: the same head of two queues is two requests, and each is returned on its queue", async () => {
	const disk = new SlowDisk(SECTORS * 512);
	const driver = new FakeDriver(new BlockDevice(disk, { queues: 2 })).start();
	const queues = [driver.queue(0), driver.queue(1)];
	const heads = queues.map((queue, i) => queue.add(writeChain(i, pattern(i))));
	for (const queue of queues) queue.kick();
	expect(heads).toEqual([0, 0]);
	expect(disk.held).toHaveLength(2);
	expect(new Set(disk.held.map(({ token }) => token)).size).toBe(2);
	disk.answer(1);
	await turn();
	expect(queues.map((queue) => queue.collect().map(status))).toEqual([[], [OK]]);
	disk.answer();
	await turn();
	expect(queues.map((queue) => queue.collect().map(status))).toEqual([[OK], []]);
});

test("BlockDevice: a driver that sets up the second queue alone is served on it", async () => {
	const driver = new FakeDriver(new BlockDevice(new MemoryDisk(SECTORS * 512), { queues: 2 }));
	driver.negotiate();
	const queue = driver.setUpQueue(1);
	driver.addStatus(DRIVER_OK);
	expect(status(await queue.request(writeChain(2, pattern(9))))).toBe(OK);
});
