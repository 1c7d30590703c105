import { describe, expect, test } from "vitest";
import { setLogLevel } from "../../src/base/log.ts";
import {
	BalloonDevice,
	VIRTIO_BALLOON_F_DEFLATE_ON_OOM,
	VIRTIO_BALLOON_F_REPORTING,
	VIRTIO_BALLOON_F_STATS_VQ,
} from "../../src/virtio/balloon.ts";
import type { BalloonConfig } from "../../src/virtio/balloon-config.ts";
import { VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { readable, writable } from "../driver/fake-queue.ts";
import { FakeRam, type FakeRegion } from "../driver/fake-ram.ts";
import { deviceSuite } from "./device-suite.ts";
import { stateSuite } from "./state-suite.ts";

const PAGE = 4096;
const MIB = 1 << 20;
const [INFLATE, DEFLATE, STATS, REPORTING] = [0, 1, 2, 3];
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const nothing = () => undefined;

/** RAM at made-up host addresses, each region after the one before. */
const HVA = 0x7000_0000_0000;
function ramAt(regions: readonly FakeRegion[]): FakeRam {
	let next = HVA;
	return new FakeRam(regions, (sizeBytes) => {
		const hva = next;
		next += sizeBytes;
		return { hva, buffer: new ArrayBuffer(sizeBytes) };
	});
}

/** What was discarded, as pages from the beginning of RAM. */
function balloon(config: BalloonConfig = {}, { regions = [[0, MIB]] as readonly FakeRegion[], without = 0n } = {}) {
	const discarded: [first: number, count: number][] = [];
	const discard = (hva: number, bytes: number) => {
		expect([hva % PAGE, bytes % PAGE, bytes > 0]).toEqual([0, 0, true]);
		discarded.push([(hva - HVA) / PAGE, bytes / PAGE]);
	};
	const device = new BalloonDevice(discard, config);
	const driver = new FakeDriver(device, { ram: ramAt(regions), without }).start();
	return { device, driver, discarded };
}

function numbers(...pages: number[]) {
	const bytes = Buffer.alloc(4 * pages.length);
	for (const [i, page] of pages.entries()) bytes.writeUInt32LE(page, 4 * i);
	return readable(bytes);
}

function pairs(...values: [tag: number, value: bigint][]) {
	const bytes = Buffer.alloc(10 * values.length);
	for (const [i, [tag, value]] of values.entries()) {
		bytes.writeUInt16LE(tag, 10 * i);
		bytes.writeBigUInt64LE(value, 10 * i + 2);
	}
	return readable(bytes);
}

describe("BalloonDevice", () => {
	setLogLevel("error");

	test("offers what its configuration says", () => {
		const { features } = balloon().device;
		const all = VIRTIO_BALLOON_F_STATS_VQ | VIRTIO_BALLOON_F_DEFLATE_ON_OOM | VIRTIO_BALLOON_F_REPORTING;
		expect(features).toBe(all);
		expect(balloon({ deflateOnOom: false, reporting: false }).device.features).toBe(VIRTIO_BALLOON_F_STATS_VQ);
		for (const targetMiB of [-1, 0.5, Number.NaN, 2 ** 24])
			expect(() => balloon({ targetMiB })).toThrow(expect.objectContaining({ code: "ERR_CONFIG_BALLOON" }));
	});

	test("gives back the pages whose numbers the driver sends, adjacent ones at once and in any order", async () => {
		const { device, driver, discarded } = balloon();
		const used = await driver.queue(INFLATE).request([numbers(203, 100, 202, 101, 200), numbers(201, 250)]);
		expect(used.written).toBe(0);
		expect(discarded.sort()).toEqual([
			[100, 2],
			[200, 4],
			[250, 1],
		]);
		expect(device.givenBackBytes).toBe(7 * PAGE);
	});

	test("leaves pages alone that are not in RAM, and goes on with the others", async () => {
		const { driver, discarded } = balloon();
		await driver.queue(INFLATE).request([numbers(0xffff_ffff, 256, 255, 0x10_0000, 255)]);
		expect(discarded).toEqual([
			[255, 1],
			[255, 1],
		]);
		/* Half a number, no number, and a buffer that the driver wants to be written. */
		for (const parts of [[readable("abc")], [readable("")], [writable(8)]]) await driver.queue(INFLATE).request(parts);
		expect(discarded).toHaveLength(2);
		expect(driver.needsReset).toBe(false);
	});

	test("takes pages beside each other over the border of two regions, and above 4 GiB", async () => {
		const high = 0x1_0000_0000;
		const { driver, discarded } = balloon(
			{},
			{
				regions: [
					[0, MIB],
					[MIB, MIB],
					[high, MIB],
				],
			},
		);
		await driver.queue(INFLATE).request([numbers(255, 256, 511, 512, high / PAGE + 3)]);
		expect(discarded).toEqual([
			[255, 2],
			[511, 1],
			[515, 1],
		]);
	});

	test("takes at most 1024 pages of one chain, and answers a driver with many runs in several turns", async () => {
		const { driver, discarded } = balloon({}, { regions: [[0, 32 * MIB]] });
		const queue = driver.queue(INFLATE);
		const alternate = numbers(...Array.from({ length: 2000 }, (_, i) => 2 * i));
		for (let i = 0; i < 4; i++) queue.add([alternate]);
		queue.kick();
		expect(queue.usedIdx).toBeLessThan(4);
		while (queue.usedIdx < 4) await turn();
		expect(discarded).toHaveLength(4 * 1024);
	});

	test("gives the deflate queue's buffers back, and discards nothing", async () => {
		const { driver, discarded } = balloon();
		expect((await driver.queue(DEFLATE).request([numbers(7, 8)])).written).toBe(0);
		expect(discarded).toEqual([]);
	});

	test("gives back reported pages, without those of which a part alone was reported", async () => {
		const { driver, discarded } = balloon({}, { regions: [[0, 4 * MIB]] });
		const used = await driver.queue(REPORTING).request(
			[
				{ write: true, length: 2 * MIB, gpa: 2 * MIB },
				{ write: true, length: 3 * PAGE, gpa: MIB + 100 },
				{ write: true, length: PAGE, gpa: MIB + 100 },
				{ write: true, length: 10, gpa: MIB },
				{ write: false, length: PAGE, gpa: MIB },
			].sort((a, b) => Number(a.write) - Number(b.write)),
		);
		expect(used.written).toBe(0);
		expect(discarded).toEqual([
			[512, 512],
			[257, 2],
		]);
	});

	test("finds the reporting queue where a driver without statistics puts it", async () => {
		const { device, driver, discarded } = balloon({}, { without: VIRTIO_BALLOON_F_STATS_VQ });
		await driver.queue(STATS).request([{ write: true, length: PAGE, gpa: PAGE * 200 }]);
		expect(discarded).toEqual([[200, 1]]);
		expect(await device.statistics()).toBeUndefined();
	});

	test("takes at most 128 MiB of one report", async () => {
		const { driver, discarded } = balloon({}, { regions: [[0, 64 * MIB]] });
		const part = { write: true, length: 60 * MIB, gpa: 2 * MIB };
		await driver.queue(REPORTING).request([part, part, part, part]);
		expect(discarded.reduce((sum, [, count]) => sum + count, 0)).toBe((128 * MIB) / PAGE);
	});

	test("setTarget tells the driver, whose progress actualMiB tells", () => {
		const { device, driver } = balloon({ targetMiB: 16 });
		const numPages = () => driver.read(VIRTIO_MMIO.Config);
		expect([device.targetMiB, numPages()]).toEqual([16, 4096]);
		const before = driver.interrupts;
		device.setTarget(64);
		expect([device.targetMiB, numPages(), driver.interrupts]).toEqual([64, 16384, before + 1]);
		expect(() => device.setTarget(-1)).toThrow(expect.objectContaining({ code: "ERR_CONFIG_BALLOON" }));
		driver.write(VIRTIO_MMIO.Config + 4, 8192);
		expect(device.actualMiB).toBe(32);
		/* The rest of the config space is not the driver's. */
		for (const offset of [0, 8, 12]) driver.write(VIRTIO_MMIO.Config + offset, 0xffff_ffff);
		expect([device.targetMiB, device.actualMiB]).toEqual([64, 32]);
		driver.reset();
		expect([device.targetMiB, device.actualMiB]).toEqual([64, 0]);
	});

	test("statistics asks the driver, and leaves out what it does not know", async () => {
		const { device, driver } = balloon();
		const queue = driver.queue(STATS);
		queue.add([pairs([4, 1n])]);
		queue.kick();
		expect(queue.usedIdx).toBe(0);
		const asked = Promise.all([device.statistics(60_000), device.statistics(60_000)]);
		expect(queue.usedIdx).toBe(1);
		queue.collect();
		queue.add([pairs([4, 123n], [5, 456n], [99, 7n], [7, 0xffff_ffffn]), readable("rest")]);
		queue.kick();
		const seen = { freeBytes: 123, totalBytes: 456, cacheBytes: 0xffff_ffff };
		expect(await asked).toEqual([seen, seen]);
	});

	test("statistics gives up when the driver does not answer, resets, or the machine ends", async () => {
		const { device, driver } = balloon();
		expect(await device.statistics(1)).toBeUndefined();
		const asked = device.statistics(60_000);
		driver.reset();
		expect(await asked).toBeUndefined();
		driver.start();
		const again = device.statistics(60_000);
		await device.close();
		expect(await again).toBeUndefined();
		expect(await device.statistics()).toBeUndefined();
	});

	test("statistics reads any buffer, also one with a thousand pairs or none", async () => {
		const { device, driver } = balloon();
		for (const [part, seen] of [
			[readable(Buffer.alloc(10_000, 0xff)), {}],
			[readable(Buffer.alloc(10_000)), { swapInBytes: 0 }],
			[readable("123456789"), {}],
			[writable(100), {}],
		] as const) {
			const asked = device.statistics(60_000);
			const queue = driver.queue(STATS);
			queue.collect();
			queue.add([part]);
			queue.kick();
			expect(await asked).toEqual(seen);
		}
	});

	test("keeps target and actual in its state, and the buffer for statistics in its queue", async () => {
		const { driver } = balloon({ targetMiB: 3 });
		driver.write(VIRTIO_MMIO.Config + 4, 512);
		const queue = driver.queue(STATS);
		queue.add([pairs([4, 9n])]);
		queue.kick();
		const other = new BalloonDevice(nothing);
		await driver.moveTo(other);
		expect([other.targetMiB, other.actualMiB]).toEqual([3, 2]);
		/* One whose configuration says another target tells the driver. */
		const third = new BalloonDevice(nothing, { targetMiB: 5 });
		driver.acknowledge();
		await driver.moveTo(third);
		expect([third.targetMiB, third.actualMiB, driver.acknowledge() & 2]).toEqual([5, 2, 2]);
		const asked = third.statistics(60_000);
		await queue.next();
		queue.add([pairs([4, 10n])]);
		queue.kick();
		expect(await asked).toEqual({ freeBytes: 10 });
	});
});

deviceSuite({ name: "BalloonDevice", make: () => new BalloonDevice(nothing), eager: [0, 1, 2, 3] });

stateSuite({
	name: "BalloonDevice",
	make: () => new BalloonDevice(nothing),
	busy: (driver) => {
		driver.queue(INFLATE).add([numbers(3, 4)]);
		driver.queue(REPORTING).add([writable(PAGE)]);
		driver.queue(STATS).add([pairs([4, 9n])]);
		for (const queue of [INFLATE, REPORTING, STATS]) driver.queue(queue).kick();
		driver.queue(DEFLATE).add([numbers(3)]);
	},
});
