/*
 * What must hold for every virtio device, whatever it does: hostile drivers end in DEVICE_NEEDS_RESET and never in a
 * throw, a reset makes it as good as new, and no byte of RAM changes outside the used rings and the buffers that the
 * driver offered for writing. Each device's test calls it once.
 */
import { describe, expect, test } from "vitest";
import { setLogLevel } from "../../src/base/log.ts";
import type { VirtioDevice } from "../../src/virtio/device.ts";
import { usedBytes, VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_WRITE } from "../../src/virtio/queue.ts";
import { DRIVER_OK, VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { type FakeQueue, rawDescriptor, writable } from "../driver/fake-queue.ts";
import { FakeRam, type FakeRegion } from "../driver/fake-ram.ts";
import { HOSTILE_MOVES } from "../driver/hostile.ts";
import { Random } from "../driver/random.ts";

export interface DeviceUnderTest {
	name: string;
	/** A device of its own for each test, with a backend that needs nothing from outside. */
	make(): VirtioDevice;
	/** Queues from which the device takes buffers as soon as it is notified; hostile moves are played on these. */
	eager: readonly number[];
	/** Rounds of the random driver; 60 unless given. */
	rounds?: number;
}

const REGIONS: readonly FakeRegion[] = [
	[0, 128 << 10],
	[128 << 10, 128 << 10],
	[0x1_0000_0000, 128 << 10],
];

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

export function deviceSuite({ name, make, eager, rounds = 60 }: DeviceUnderTest): void {
	setLogLevel("error");

	describe.each(eager.map((index) => ({ index })))(`${name} queue $index`, ({ index }) => {
		test.each(HOSTILE_MOVES.map((move) => ({ ...move, toString: () => move.what })))(
			"needs a reset after $what, and works after it",
			async ({ play }) => {
				const device = make();
				const driver = new FakeDriver(device, { queueSize: 16 }).start();
				play(driver.queue(index), driver);
				driver.queue(index).rawKick();
				await turn();
				expect(driver.needsReset).toBe(true);
				expect(driver.acknowledge() & 2).toBe(2);
				for (let i = 0; i < device.queueSizes.length; i++) driver.queue(i).rawKick();
				await turn();
				driver.start();
				await turn();
				expect(driver.needsReset).toBe(false);
				await device.close();
			},
		);

		test("needs a reset when a head is made available twice or the device has used it already", async () => {
			const device = make();
			const driver = new FakeDriver(device, { queueSize: 8 }).start();
			const queue = driver.queue(index);
			const head = queue.add([writable(64)]);
			queue.rawAvailable(head);
			queue.rawKick();
			await turn();
			/* A device that was done with the first one may take the second as a new request. */
			expect(driver.needsReset || queue.usedIdx === 2).toBe(true);
			await device.close();
		});
	});

	test(`${name} survives a reset at any time and notifications in any state`, async () => {
		const device = make();
		const driver = new FakeDriver(device, { queueSize: 8 });
		for (let i = 0; i < 4; i++) driver.write(VIRTIO_MMIO.QueueNotify, i);
		for (let round = 0; round < 8; round++) {
			driver.negotiate();
			const queues = device.queueSizes.map((_, i) => driver.setUpQueue(i));
			for (const queue of queues) for (let n = 0; n < 3; n++) queue.add([writable(600)]);
			driver.addStatus(DRIVER_OK);
			for (const queue of queues) queue.rawKick();
			if (round % 2 === 0) await turn();
			driver.reset();
			driver.write(VIRTIO_MMIO.QueueNotify, 0);
			if (round % 3 === 0) await turn();
		}
		const before = driver.ram.snapshot();
		await turn();
		await turn();
		expect(driver.ram.changes(before)).toEqual([]);
		await device.close();
	});

	test(`${name} never throws at a random driver, nor writes where it must not`, async () => {
		const device = make();
		for (let seed = 1; seed <= rounds; seed++) await playRandomly(device, seed);
		await device.close();
	});
}

/** One round: rings in a region of their own, random moves, then a look at all of RAM. */
async function playRandomly(device: VirtioDevice, seed: number): Promise<void> {
	const random = new Random(seed);
	const ram = new FakeRam([...REGIONS, [0x2_0000_0000, 256 << 10]]);
	const options = { eventIdx: random.chance(50), indirect: random.chance(80), queueSize: 1 << random.below(6) };
	const driver = new FakeDriver(device, { ...options, ram, ringRegion: 3 }).start();
	for (const [gpa, size] of REGIONS) for (let at = 0; at < size; at++) ram.memory.setU8(gpa + at, random.bits() & 0xff);
	const before = ram.snapshot();
	const offered: [gpa: number, length: number][] = [];
	const queues = device.queueSizes.map((_, i) => driver.queue(i));
	for (const queue of queues) offered.push([queue.used, usedBytes(queue.size)]);
	for (let move = 0; move < 60; move++) {
		await playMove(random, driver, random.pick(queues), offered);
		if ((driver.status & DRIVER_OK) === 0) break;
	}
	driver.reset();
	await turn();
	/* What the random driver wrote itself is in the ring region; the others hold buffers only. */
	const after = ram.changes(before).filter((gpa) => gpa < 0x2_0000_0000);
	const wild = after.filter((at) => !offered.some(([gpa, length]) => at >= gpa && at < gpa + length));
	expect({ seed, wild: wild.slice(0, 8) }).toEqual({ seed, wild: [] });
}

async function playMove(
	random: Random,
	driver: FakeDriver,
	queue: FakeQueue,
	offered: [gpa: number, length: number][],
): Promise<void> {
	const descriptor = (entries: number, maxFlags: number) => {
		const [base, size] = random.pick(REGIONS);
		const wildly = random.chance(3);
		const gpa = wildly ? random.bits() * 2 ** random.below(33) : base + random.below(size);
		const length = random.pick([0, 1, 4, 12, 16, 20, 44, 512, 513, 1024, 4096, random.below(9000)]);
		const flags = random.chance(1) ? random.bits() & 0xffff : random.below(maxFlags + 1);
		if ((flags & VIRTQ_DESC_F_WRITE) !== 0) offered.push([gpa, length]);
		return { gpa, length, flags, next: random.chance(2) ? random.bits() & 0xffff : random.below(entries) };
	};
	switch (random.below(10)) {
		case 0:
		case 1:
		case 2:
		case 3:
			for (let i = 0; i < 4; i++) queue.rawDescriptor(random.below(queue.size), descriptor(queue.size, 3));
			queue.rawAvailable(random.chance(1) ? random.bits() & 0xffff : random.below(queue.size));
			return;
		case 4:
		case 5: {
			const entries = 1 + random.below(5);
			const at = driver.ram.alloc(16 * entries, 16, 3);
			for (let i = 0; i < entries; i++) rawDescriptor(driver.memory, at, i, descriptor(entries, 3));
			const head = random.below(queue.size);
			queue.rawDescriptor(head, { gpa: at, length: 16 * entries, flags: VIRTQ_DESC_F_INDIRECT, next: 0 });
			queue.rawAvailable(head);
			return;
		}
		case 6:
			if (random.chance(5)) queue.rawAvailIdx(random.bits());
			return;
		case 7: {
			/* Any register but those that would move the rings into the buffers' regions. */
			const offset = random.pick([0x14, 0x20, 0x24, 0x34, 0x44, 0x50, 0x60, 0x64, 0xfc, 0x100, 0x108, 0x1fc]);
			const size = random.pick([1, 2, 4]);
			driver.transport.write(offset, size, random.bits() >>> (32 - 8 * size));
			driver.transport.read(random.below(0x200), size);
			if (random.chance(3)) driver.write(VIRTIO_MMIO.Status, random.pick([0, random.bits()]));
			return;
		}
		case 8:
			await turn();
			return;
		default:
			queue.rawKick();
	}
}
