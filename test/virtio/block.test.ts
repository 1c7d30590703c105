import { describe, expect, test } from "vitest";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import {
	VIRTIO_BLK_F_DISCARD,
	VIRTIO_BLK_F_FLUSH,
	VIRTIO_BLK_F_RO,
	VIRTIO_BLK_F_SIZE_MAX,
	VIRTIO_BLK_F_WRITE_ZEROES,
	virtio_blk_config,
} from "../../src/virtio/block-request.ts";
import { VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import { header, pattern, rangeChain, readChain, status, writeChain } from "../driver/block-chains.ts";
import { type DriverOptions, FakeDriver } from "../driver/fake-driver.ts";
import { concat, readable, writable } from "../driver/fake-queue.ts";
import { FakeRam, SPLIT } from "../driver/fake-ram.ts";
import { SlowDisk } from "../driver/slow-disk.ts";
import { deviceSuite } from "./device-suite.ts";

const OK = 0;
const IOERR = 1;
const UNSUPP = 2;
const SECTORS = 256;

function started(options: DriverOptions = {}, disk = new MemoryDisk(SECTORS * 512)) {
	const driver = new FakeDriver(new BlockDevice(disk), options).start();
	return { disk, driver, queue: driver.queue(0) };
}

function slow(options: DriverOptions = {}) {
	const disk = new SlowDisk(SECTORS * 512);
	const driver = new FakeDriver(new BlockDevice(disk), options).start();
	return { disk, driver, queue: driver.queue(0) };
}

/** Lets the staged completions be published. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe.each([
	{ eventIdx: true, indirect: true },
	{ eventIdx: true, indirect: false },
	{ eventIdx: false, indirect: true },
	{ eventIdx: false, indirect: false },
])("BlockDevice with %o", (options) => {
	test("write and read move sectors of several segments", async () => {
		const { disk, queue } = started(options);
		const wrote = await queue.request(writeChain(3, pattern(1), pattern(2, 2)), options.indirect);
		expect([status(wrote), wrote.written]).toEqual([OK, 1]);
		expect(disk.bytes.subarray(3 * 512, 6 * 512)).toEqual(concat(pattern(1), pattern(2, 2)));
		const read = await queue.request(readChain(3, 512, 1024), options.indirect);
		expect([status(read), read.written]).toEqual([OK, 1537]);
		expect(read.data.subarray(0, 1536)).toEqual(concat(pattern(1), pattern(2, 2)));
	});

	test("a batch is answered with one interrupt", async () => {
		const { driver, queue } = started(options);
		for (let i = 0; i < 16; i++) queue.add(writeChain(i, pattern(i)));
		queue.kick();
		expect(queue.collect().map(status)).toEqual(Array(16).fill(OK));
		expect(driver.interrupts).toBe(1);
		expect(driver.acknowledge()).toBe(1);
		expect(driver.acknowledge()).toBe(0);
	});

	test("thousands of requests go around the ring in order", async () => {
		const { queue, disk } = started({ ...options, queueSize: 8, ram: new FakeRam([[0, 64 << 20]]) });
		for (let i = 0; i < 70_000; i += 2) {
			queue.add([readable(header(8)), writable(20), writable(1)]);
			queue.add([readable(header(8)), writable(20), writable(1)]);
			queue.kick();
			const used = queue.collect();
			if (used.length !== 2 || used.some((u) => u.written !== 21)) expect(used).toEqual("two identifications");
			if (i % 10_000 === 0) expect(status(await queue.request(writeChain(1, pattern(i))))).toBe(OK);
		}
		expect(disk.bytes.subarray(512, 1024)).toEqual(pattern(60_000));
	});
});

describe("BlockDevice config space", () => {
	test("says capacity, segments and block size", () => {
		const { driver } = started();
		const config = Buffer.from(driver.config(0, 60));
		expect(config.readBigUInt64LE(virtio_blk_config.capacity)).toBe(BigInt(SECTORS));
		expect(config.readUInt32LE(virtio_blk_config.seg_max)).toBe(254);
		expect(config.readUInt32LE(virtio_blk_config.blk_size)).toBe(512);
		expect(virtio_blk_config.sizeof).toBe(64);
	});

	test("a read-only disk offers RO and neither discard nor write-zeroes", () => {
		const device = new BlockDevice(new MemoryDisk(512, true));
		expect(device.features & VIRTIO_BLK_F_RO).toBe(VIRTIO_BLK_F_RO);
		expect(device.features & (VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES)).toBe(0n);
	});
});

describe("BlockDevice requests", () => {
	test("get-id answers 20 bytes, filled up with zeroes", async () => {
		const driver = new FakeDriver(new BlockDevice(new MemoryDisk(512), { id: "root" })).start();
		const used = await driver.queue(0).request([readable(header(8)), writable(20), writable(1)]);
		expect([status(used), used.written]).toEqual([OK, 21]);
		expect(Buffer.from(used.data.subarray(0, 20)).toString()).toBe(`root${"\0".repeat(16)}`);
	});

	test("flush is done after the writes before it and answers OK", async () => {
		const { queue, disk } = slow();
		queue.add([readable(header(4)), writable(1)]);
		queue.kick();
		expect(disk.held.map((h) => h.what)).toEqual(["flush"]);
		disk.answer();
		await turn();
		expect(queue.collect().map(status)).toEqual([OK]);
	});

	test("a write is flushed before it is answered when the driver cannot flush", async () => {
		const { queue, disk } = slow({ without: VIRTIO_BLK_F_FLUSH });
		queue.add(writeChain(0, pattern(1)));
		queue.kick();
		expect(disk.held.map((h) => h.what)).toEqual(["write"]);
		disk.answer();
		await turn();
		expect(queue.collect()).toEqual([]);
		expect(disk.held.map((h) => h.what)).toEqual(["flush"]);
		disk.answer();
		await turn();
		expect(queue.collect().map(status)).toEqual([OK]);
	});

	test("discards and zeroes are flushed once, after the last range, when the driver cannot flush", async () => {
		const { queue, disk } = slow({ without: VIRTIO_BLK_F_FLUSH });
		for (const [type, what] of [
			[11, "discard"],
			[13, "writeZeroes"],
		] as const) {
			queue.add(rangeChain(type, { sector: 0, sectors: 1 }, { sector: 4, sectors: 1 }));
			queue.kick();
			for (const next of [what, what, "flush"]) {
				expect(disk.held.map((h) => h.what)).toEqual([next]);
				expect(queue.collect()).toEqual([]);
				disk.answer();
				await turn();
			}
			expect(queue.collect().map(status)).toEqual([OK]);
		}
	});

	test("header, data and status may be cut and joined in any way", async () => {
		const { disk, queue } = started();
		const bytes = Buffer.concat([header(1, 5), pattern(9, 2)]);
		const cuts = [bytes.subarray(0, 3), bytes.subarray(3, 15), bytes.subarray(15, 600), bytes.subarray(600)];
		expect(status(await queue.request([...cuts.map((c) => readable(c)), writable(1)]))).toBe(OK);
		expect(disk.bytes.subarray(5 * 512, 7 * 512)).toEqual(pattern(9, 2));
		const joined = await queue.request([readable(header(0, 5)), writable(100), writable(925)], true);
		expect([status(joined), joined.written]).toEqual([OK, 1025]);
		expect(joined.data.subarray(0, 1024)).toEqual(pattern(9, 2));
	});

	test("buffers may lie in several regions, cross from one to the next, and be above 4 GiB", async () => {
		const ram = new FakeRam(SPLIT);
		ram.alloc(512, 8, 1); /* the part of the crossing buffer in the second region */
		const { disk, queue } = started({ ram, ringRegion: 2 });
		const crossing = { write: false, length: 1024, gpa: (256 << 10) - 512, data: pattern(4, 2) };
		const high = readable(pattern(5), 2);
		expect(status(await queue.request([readable(header(1, 0)), crossing, high, writable(1, 2)]))).toBe(OK);
		expect(disk.bytes.subarray(0, 1536)).toEqual(concat(pattern(4, 2), pattern(5)));
		const back = { write: true, length: 1024, gpa: (256 << 10) - 512 };
		const used = await queue.request([readable(header(0, 0)), writable(512, 2), back, writable(1, 1)]);
		expect(used.data.subarray(0, 1536)).toEqual(concat(pattern(4, 2), pattern(5)));
	});

	test("discard and write-zeroes work on several ranges", async () => {
		const { disk, queue } = started();
		disk.bytes.fill(7);
		const zeroed = await queue.request(rangeChain(13, { sector: 1, sectors: 2 }, { sector: 8, sectors: 1, flags: 1 }));
		expect([status(zeroed), zeroed.written]).toEqual([OK, 1]);
		const discarded = rangeChain(11, { sector: 10, sectors: 1 }, { sector: 0, sectors: 0 }, { sector: 12, sectors: 4 });
		expect(status(await queue.request(discarded))).toBe(OK);
		const zero = Array.from({ length: SECTORS }, (_, s) => s).filter((s) => disk.bytes[s * 512] === 0);
		expect(zero).toEqual([1, 2, 8, 10, 12, 13, 14, 15]);
	});

	test("requests that answer in another order are returned as they answer, one submit per batch", async () => {
		const { disk, driver, queue } = slow();
		const heads = [0, 1, 2].map((i) => queue.add(readChain(i, 512)));
		queue.kick();
		expect(disk.submits).toBe(1);
		disk.answer(2);
		disk.answer(0);
		expect(queue.usedIdx).toBe(0);
		await turn();
		expect(queue.collect().map((u) => u.head)).toEqual([heads[2], heads[0]]);
		expect(driver.interrupts).toBe(1);
		disk.answer(0, "io");
		await turn();
		const [failed] = queue.collect();
		expect([failed!.head, status(failed!), failed!.written]).toEqual([heads[1], IOERR, 0]);
	});

	test("disks are independent of each other", async () => {
		const a = started();
		const b = started();
		await a.queue.request(writeChain(0, pattern(1)));
		await b.queue.request(writeChain(0, pattern(2)));
		expect(a.disk.bytes.subarray(0, 512)).toEqual(pattern(1));
		expect(b.disk.bytes.subarray(0, 512)).toEqual(pattern(2));
		await a.driver.device.close();
		expect(status(await b.queue.request(readChain(0, 512)))).toBe(OK);
	});
});

describe("BlockDevice refuses", () => {
	const cases: [string, () => ReturnType<typeof readChain>, number][] = [
		["a read beyond the end", () => readChain(SECTORS, 512), IOERR],
		["a read over the end", () => readChain(SECTORS - 1, 1024), IOERR],
		["a write beyond the end", () => writeChain(SECTORS, pattern(1)), IOERR],
		["a sector of 2^53 and more", () => readChain(2 ** 60, 512), IOERR],
		["a read of half a sector", () => readChain(0, 256), IOERR],
		["a write of half a sector", () => writeChain(0, new Uint8Array(256)), IOERR],
		["a header that is cut short", () => [readable(header(0).subarray(0, 15)), writable(512), writable(1)], IOERR],
		["a request without a header", () => [writable(512), writable(1)], IOERR],
		["a type that is not known", () => [readable(header(99)), writable(1)], UNSUPP],
		["secure erase, which is not offered", () => rangeChain(14, { sector: 0, sectors: 1 }), UNSUPP],
		["a discard of no range", () => [readable(header(11)), writable(1)], IOERR],
		["a discard of half a range", () => [readable(header(11)), readable(new Uint8Array(8)), writable(1)], IOERR],
		["17 ranges", () => rangeChain(11, ...Array(17).fill({ sector: 0, sectors: 1 })), IOERR],
		["a discard with the unmap flag", () => rangeChain(11, { sector: 0, sectors: 1, flags: 1 }), UNSUPP],
		["write-zeroes with a reserved flag", () => rangeChain(13, { sector: 0, sectors: 1, flags: 2 }), UNSUPP],
		["a range beyond the end", () => rangeChain(13, { sector: 0, sectors: 1 }, { sector: 255, sectors: 2 }), IOERR],
		["a range that is too long", () => rangeChain(11, { sector: 0, sectors: 0xffff_ffff }), IOERR],
	];
	test.each(cases)("%s, and goes on working", async (_what, chain, expected) => {
		const { disk, driver, queue } = started();
		disk.bytes.fill(7);
		expect(status(await queue.request(chain()))).toBe(expected);
		expect(disk.bytes.every((b) => b === 7)).toBe(true);
		expect(driver.needsReset).toBe(false);
		expect(status(await queue.request(writeChain(0, pattern(1))))).toBe(OK);
	});

	test("writes, discards and zeroes to a read-only disk", async () => {
		const { disk, queue } = started({}, new MemoryDisk(SECTORS * 512, true));
		expect(status(await queue.request(writeChain(0, pattern(1))))).toBe(IOERR);
		expect(status(await queue.request(rangeChain(11, { sector: 0, sectors: 1 })))).toBe(UNSUPP);
		expect(status(await queue.request(rangeChain(13, { sector: 0, sectors: 1 })))).toBe(UNSUPP);
		expect(status(await queue.request(readChain(0, 512)))).toBe(OK);
		expect(disk.bytes.every((b) => b === 0)).toBe(true);
	});

	test("a request without room for a status, by DEVICE_NEEDS_RESET, and recovers by a reset", async () => {
		const { driver, queue } = started();
		queue.add([readable(header(1)), readable(pattern(1))]);
		queue.kick();
		expect(driver.needsReset).toBe(true);
		expect(driver.acknowledge() & 2).toBe(2);
		driver.start();
		expect(status(await driver.queue(0).request(readChain(0, 512)))).toBe(OK);
	});
});

describe("BlockDevice with much data in one request", () => {
	const MIB = 1 << 20;

	/** A disk of 64 MiB, and a chain that lists one MiB of RAM over and over. */
	function large() {
		const disk = new SlowDisk(64 * MIB);
		const driver = new FakeDriver(new BlockDevice(disk), { ram: new FakeRam([[0, 4 * MIB]]) }).start();
		const gpa = driver.ram.alloc(MIB);
		const last = driver.ram.alloc(1);
		const chain = (write: boolean, ...lengths: number[]) => [
			readable(header(write ? 1 : 0)),
			...lengths.map((length) => ({ gpa, length, write: !write })),
			{ gpa: last, length: 1, write: true },
		];
		return { disk, driver, queue: driver.queue(0), last, chain };
	}

	test.each([true, false])("takes 32 MiB and refuses a sector more, a write: %s", async (write) => {
		const { disk, driver, queue, last, chain } = large();
		queue.add(chain(write, ...Array<number>(32).fill(MIB)));
		queue.kick();
		expect(disk.held.map((h) => h.what)).toEqual([write ? "write" : "read"]);
		disk.answer(0, "io");
		await turn();
		queue.collect();
		driver.memory.setU8(last, 0xff);
		const head = queue.add(chain(write, ...Array<number>(32).fill(MIB), 512));
		queue.kick();
		expect(disk.held).toEqual([]);
		expect((await queue.next(head)).written).toBe(write ? 1 : 0);
		expect(driver.memory.u8(last)).toBe(IOERR);
		expect(driver.needsReset).toBe(false);
	});

	test.each([1, 2, 8, 256, 1024])(
		"keeps a driver that obeys size_max and seg_max below that, queue of %i",
		(queueSize) => {
			const device = new BlockDevice(new MemoryDisk(512), { queueSize });
			expect(device.features & VIRTIO_BLK_F_SIZE_MAX).toBe(VIRTIO_BLK_F_SIZE_MAX);
			const config = Buffer.from(device.config);
			const sizeMax = config.readUInt32LE(virtio_blk_config.size_max);
			expect(sizeMax * config.readUInt32LE(virtio_blk_config.seg_max)).toBeLessThanOrEqual(32 * MIB);
			expect([sizeMax % 4096, sizeMax > 0]).toEqual([0, true]);
		},
	);
});

describe("BlockDevice reset in mid-flight", () => {
	test("no byte of RAM changes once the driver reads Status 0, whatever the disk still answers", async () => {
		const { disk, driver, queue } = slow();
		disk.bytes.fill(7);
		const buffer = { gpa: driver.ram.alloc(512), length: 512, write: true };
		for (let i = 0; i < 2; i++) queue.add([readable(header(0, i)), buffer, writable(1)]);
		queue.add(writeChain(2, pattern(1)));
		queue.kick();
		disk.answer(2);
		let wentOn = false;
		const reset = driver.resetSlowly().then(() => {
			wentOn = true;
		});
		while (driver.status !== 0) {
			await turn();
			expect(wentOn).toBe(false);
			disk.answer();
			await turn();
		}
		await reset;
		const { memory } = driver;
		for (const { gpa, bytes } of memory.windows) memory.bytes(gpa, bytes.length).fill(0xee);
		const poisoned = driver.ram.snapshot();
		while (disk.held.length > 0) disk.answer();
		disk.answerToken(0);
		await turn();
		expect(driver.ram.changes(poisoned)).toEqual([]);
		driver.start();
		const next = driver.queue(0).request(readChain(0, 512));
		disk.answer();
		expect(status(await next)).toBe(OK);
	});

	test("an answer during the reset changes no ring and no status byte, and what the driver writes is for nobody", async () => {
		const { disk, driver, queue } = slow();
		const lastByte = driver.ram.alloc(1);
		driver.memory.setU8(lastByte, 0xff);
		queue.add([readable(header(1)), readable(pattern(1)), { gpa: lastByte, length: 1, write: true }]);
		queue.add(writeChain(1, pattern(1)));
		queue.kick();
		const reset = driver.resetSlowly();
		const { status: before } = driver;
		const ram = driver.ram.snapshot();
		disk.answer();
		driver.write(VIRTIO_MMIO.Status, 1);
		driver.write(VIRTIO_MMIO.Status, before | 0x80);
		driver.write(VIRTIO_MMIO.QueueReady, 0);
		queue.rawKick();
		await turn();
		expect(driver.status).toBe(before);
		expect(driver.ram.changes(ram)).toEqual([]);
		expect(driver.interrupts).toBe(0);
		disk.answer();
		await reset;
		expect(driver.status).toBe(0);
		expect(driver.interrupts).toBe(0);
	});

	test("a request that a reset overtakes between two of its ranges ends too", async () => {
		const { disk, driver, queue } = slow();
		queue.add(rangeChain(11, { sector: 0, sectors: 1 }, { sector: 4, sectors: 1 }));
		queue.kick();
		disk.answer();
		const reset = driver.resetSlowly(); /* the second range is queued, and not submitted yet */
		await turn();
		expect(disk.held.map((h) => h.what)).toEqual(["discard"]);
		disk.answer();
		await reset;
		driver.start();
		const next = driver.queue(0).request(readChain(0, 512));
		disk.answer();
		expect(status(await next)).toBe(OK);
	});

	test("a second reset before the first is complete is complete with it", async () => {
		const { disk, driver, queue } = slow();
		queue.add(writeChain(0, pattern(1)));
		queue.kick();
		const done: number[] = [];
		const resets = [1, 2].map((i) => driver.resetSlowly().then(() => done.push(i)));
		await turn();
		expect(done).toEqual([]);
		disk.answer();
		await Promise.all(resets);
		driver.start();
		const next = driver.queue(0).request(readChain(0, 512));
		disk.answer();
		expect(status(await next)).toBe(OK);
	});

	test("an answer that nobody waits for is ignored", async () => {
		const { disk, driver, queue } = slow();
		disk.answerToken(5);
		disk.answerToken(5000);
		await turn();
		expect(queue.usedIdx).toBe(0);
		expect(driver.interrupts).toBe(0);
	});

	test("close closes the backend", async () => {
		const { disk, driver } = slow();
		await driver.device.close();
		expect(disk.closed).toBe(true);
	});
});

deviceSuite({
	name: "BlockDevice",
	make: () => new BlockDevice(new MemoryDisk(SECTORS * 512), { queues: 2 }),
	eager: [0, 1],
	rounds: 150,
	fill: (random, bytes) => {
		const type = random.pick([0, 0, 1, 1, 4, 8, 11, 13, 14]);
		const [one, two] = [random.below(SECTORS + 2), random.below(SECTORS)];
		bytes.set(header(type, random.chance(5) ? random.bits() * 2 ** 21 : one));
		/* Read as ranges, the same bytes are two of a few sectors. */
		bytes.set(rangeChain(11, { sector: two, sectors: random.below(9) }, { sector: one, sectors: 1 })[1]!.data!, 16);
	},
});
