import { expect, test } from "vitest";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { VIRTIO_BLK_F_MQ, virtio_blk_config } from "../../src/virtio/block-request.ts";
import { DRIVER_OK } from "../../src/virtio/spec.ts";
import { pattern, rangeChain, readChain, status, writeChain } from "../driver/block-chains.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { SlowDisk } from "../driver/slow-disk.ts";

const OK = 0;
const IOERR = 1;
const SECTORS = 256;

/** A disk whose device takes whole pages only. */
class PageDisk extends MemoryDisk {
	readonly blockBytes = 4096;
	readonly physicalBlockBytes = 16_384;
}

test("BlockDevice tells the driver of larger blocks, and refuses parts of them", async () => {
	const driver = new FakeDriver(new BlockDevice(new PageDisk(1 << 20))).start();
	const config = Buffer.from(driver.config(0, virtio_blk_config.sizeof));
	expect(config.readUInt32LE(virtio_blk_config.blk_size)).toBe(4096);
	expect(config.readUInt8(virtio_blk_config.physical_block_exp)).toBe(2);
	expect(config.readUInt16LE(virtio_blk_config.min_io_size)).toBe(4);
	const queue = driver.queue(0);
	expect(status(await queue.request(writeChain(8, pattern(1, 8))))).toBe(OK);
	for (const chain of [writeChain(1, pattern(1, 8)), writeChain(8, pattern(1, 7)), readChain(4, 4096)])
		expect(status(await queue.request(chain))).toBe(IOERR);
	expect(status(await queue.request(rangeChain(13, { sector: 8, sectors: 4 })))).toBe(IOERR);
});

test("BlockDevice goes on on a disk with smaller blocks, and not with larger ones", async () => {
	const driver = new FakeDriver(new BlockDevice(new PageDisk(8192))).start();
	const small = new FakeDriver(new BlockDevice(new MemoryDisk(8192))).start();
	await driver.moveTo(new BlockDevice(new MemoryDisk(8192)));
	await expect(small.moveTo(new BlockDevice(new PageDisk(8192)))).rejects.toThrow("its disk had blocks of 512 bytes");
	const device = new BlockDevice(new MemoryDisk(512));
	await expect(device.replaceBackend(new PageDisk(4096))).rejects.toThrow("the new one has larger blocks");
});

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
