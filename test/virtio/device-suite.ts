/*
 * The rules for every virtio device. A hostile driver causes DEVICE_NEEDS_RESET but never a throw. After a reset the
 * device works as a new one. No byte of RAM changes outside the used rings and the buffers that the driver offered for
 * writing. Each device's test calls it once.
 */
import { describe, expect, test } from "vitest";
import { setLogLevel } from "../../src/base/log.ts";
import type { VirtioDevice } from "../../src/virtio/device.ts";
import { DRIVER_OK, VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { writable } from "../driver/fake-queue.ts";
import { HOSTILE_MOVES } from "../driver/hostile.ts";
import { Random } from "../driver/random.ts";
import { RandomDriver } from "../driver/random-driver.ts";

export interface DeviceUnderTest {
	name: string;
	/** A device of its own for each test, with a backend that needs nothing from outside. */
	make(): VirtioDevice;
	/** Queues from which the device takes buffers as soon as it is notified; hostile moves are played on these. */
	eager: readonly number[];
	/** Rounds of the random driver; 60 unless given. */
	rounds?: number;
	/** Puts at a random driver's buffer what may begin a request, so that more than its refusal is tried. */
	fill?: (random: Random, bytes: Uint8Array) => void;
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

export function deviceSuite({ name, make, eager, rounds = 60, fill }: DeviceUnderTest): void {
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
		for (let seed = 1; seed <= rounds; seed++) {
			const wild = await new RandomDriver(device, new Random(seed), fill).play();
			expect({ seed, wild: wild.slice(0, 8) }).toEqual({ seed, wild: [] });
		}
		await device.close();
	});
}
