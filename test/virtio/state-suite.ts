/*
 * What every device has to do with a saved state: be the same after a restore, refuse a damaged one without any change,
 * and work with every state that it accepts.
 */
import { expect, test } from "vitest";
import { setLogLevel } from "../../src/base/log.ts";
import type { SavedState } from "../../src/base/state.ts";
import type { VirtioDevice } from "../../src/virtio/device.ts";
import { DRIVER_OK, VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { writable } from "../driver/fake-queue.ts";
import { Random } from "../driver/random.ts";
import { refusesOrWorks } from "../driver/state-fuzz.ts";

export interface StatefulDevice {
	name: string;
	/** A fresh device; all of them alike. */
	make: () => VirtioDevice;
	/** Brings a started device into the middle of its work; what it needs to be quiesced happens by itself. */
	busy: (driver: FakeDriver) => void | Promise<void>;
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** The config space is the new host's to say. */
const withoutConfig = ({ config: _, ...rest }: SavedState) => rest;

export function stateSuite({ name, make, busy }: StatefulDevice): void {
	setLogLevel("error");

	async function savedInTraffic() {
		const driver = new FakeDriver(make(), { queueSize: 16 }).start();
		await busy(driver);
		await driver.transport.quiesce();
		const state = structuredClone(driver.transport.save());
		await driver.device.close();
		return { driver, state };
	}

	test(`${name} saves plain data, which is the same after a restore`, async () => {
		const { driver, state } = await savedInTraffic();
		const device = make();
		const transport = driver.transportFor(device);
		transport.restore(state);
		await transport.quiesce();
		expect(withoutConfig(transport.save())).toEqual(withoutConfig(state));
		await device.close();
	});

	test(`${name} is saved and restored at every step of its driver's start`, async () => {
		const first = make();
		const driver = new FakeDriver(first, { queueSize: 8 });
		const step = async () => {
			const old = driver.device;
			await driver.moveTo(make());
			await old.close();
		};
		await step();
		driver.negotiate();
		await step();
		const queues = driver.device.queueSizes.map((_, i) => driver.setUpQueue(i));
		await step();
		for (const queue of queues) {
			driver.write(VIRTIO_MMIO.QueueSel, queue.index);
			expect(driver.read(VIRTIO_MMIO.QueueReady)).toBe(1);
		}
		driver.addStatus(DRIVER_OK);
		await step();
		expect(driver.status).toBe(15);
		for (const queue of queues) queue.rawAvailIdx(999);
		for (const queue of queues) queue.rawKick();
		await turn();
		expect(driver.needsReset).toBe(true);
		await step();
		expect(driver.needsReset).toBe(true);
		driver.start();
		await turn();
		expect(driver.status).toBe(15);
		await driver.device.close();
	});

	test(`${name} refuses a damaged state without any change, or works with it`, { timeout: 60_000 }, async () => {
		const { driver, state } = await savedInTraffic();
		const ram = driver.ram.snapshot();
		const count = await refusesOrWorks(state, new Random(7), (damaged) => {
			const device = make();
			const transport = driver.transportFor(device);
			try {
				transport.restore(damaged);
			} catch (error) {
				/* It is as fresh as before. */
				transport.restore(state);
				expect(withoutConfig(transport.save())).toEqual(withoutConfig(state));
				void device.close();
				throw error;
			}
			return async () => {
				transport.resume();
				driver.device = device;
				driver.transport = transport;
				for (let i = 0; i < device.queueSizes.length; i++) driver.queue(i).rawKick();
				await turn();
				driver.reset();
				driver.ram.rewind(ram);
				await device.close();
			};
		});
		expect(count.refused).toBeGreaterThan(100);
		expect(count.taken).toBeGreaterThan(50);
	});

	test(`${name} takes no chain between quiesce and resume, and all of them afterwards`, async () => {
		const driver = new FakeDriver(make(), { queueSize: 16 }).start();
		await busy(driver);
		await driver.transport.quiesce();
		const last = driver.queue(driver.device.queueSizes.length - 1);
		const { usedIdx } = last;
		for (let n = 0; n < 3; n++) last.add([writable(8)]);
		last.rawKick();
		await turn();
		expect(last.usedIdx).toBe(usedIdx);
		driver.transport.resume();
		await turn();
		driver.reset();
		driver.start();
		expect(driver.needsReset).toBe(false);
		await driver.device.close();
	});
}
