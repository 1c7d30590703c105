import { expect, test } from "vitest";
import type { SavedState } from "../../src/base/state.ts";
import type { Activation, VirtioDevice } from "../../src/virtio/device.ts";
import type { Chain, Virtqueue } from "../../src/virtio/queue.ts";
import { RngDevice } from "../../src/virtio/rng.ts";
import { INTERRUPT_CONFIG_CHANGE, VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { readable, writable } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";

/** Answers when it is told to; what it has not begun at `quiesce` it gives back. */
class Slow implements VirtioDevice {
	readonly name = "slow0";
	readonly deviceId = 63;
	readonly features = 0n;
	readonly queueSizes: readonly number[];
	readonly config: Uint8Array;
	readonly held: Chain[] = [];
	queue: Virtqueue | undefined;
	#idle: (() => void) | undefined;

	constructor(config = Uint8Array.of(1, 2), queueSizes = [16]) {
		this.config = config;
		this.queueSizes = queueSizes;
	}

	activate({ queues }: Activation): void {
		this.queue = queues[0];
	}

	notify(): void {
		for (let chain = this.queue?.pop(); chain !== undefined; chain = this.queue?.pop()) this.held.push(chain);
	}

	answer(): void {
		const chain = this.held.shift()!;
		chain.writable.copyFrom(Buffer.from(`${chain.readable.totalBytes}`));
		this.queue?.push(chain, 1);
		if (this.held.length === 0) this.#idle?.();
	}

	/** Two are begun; the others need not be. */
	async quiesce(): Promise<void> {
		for (const chain of this.held.splice(2).reverse()) this.queue?.unpop(chain);
		if (this.held.length === 0) return;
		await new Promise<void>((resolve) => {
			this.#idle = resolve;
		});
	}

	save(): SavedState {
		return { version: 1 };
	}

	restore(_state: unknown, activation: Activation | undefined): void {
		if (activation !== undefined) this.activate(activation);
	}

	reset(): void {
		this.queue = undefined;
	}

	async close(): Promise<void> {
		this.reset();
	}
}

test.each([true, false])("a device moves in mid-traffic and no chain is lost (EVENT_IDX %s)", async (eventIdx) => {
	const before = new Slow();
	const driver = new FakeDriver(before, { eventIdx }).start();
	const queue = driver.queue(0);
	const heads = [1, 2, 3, 4, 5].map((n) => queue.add([readable("x".repeat(n)), writable(1)]));
	queue.kick();
	expect(before.held).toHaveLength(5);
	const after = new Slow();
	const moved = driver.moveTo(after);
	before.answer();
	before.answer();
	const late = queue.add([readable("xxxxxx"), writable(1)]);
	await moved;
	/* Two were answered by the old device, three given back, and one came while nobody listened. */
	expect(after.held.map(({ head }) => head)).toEqual([...heads.slice(2), late]);
	expect(queue.kick() || eventIdx).toBe(true);
	while (after.held.length > 0) after.answer();
	after.queue?.flush();
	const used = queue.collect();
	expect(used.map(({ head }) => head)).toEqual([...heads, late]);
	expect(used.map(({ data }) => Buffer.from(data).toString())).toEqual(["1", "2", "3", "4", "5", "6"]);
	expect(driver.needsReset).toBe(false);
});

test("MmioTransport.resume raises an interrupt that was not acknowledged once more", async () => {
	const driver = new FakeDriver(new RngDevice()).start();
	await driver.queue(0).request([writable(4)]);
	const { interrupts } = driver;
	await driver.moveTo(new RngDevice());
	expect(driver.interrupts).toBe(interrupts + 1);
	expect(driver.acknowledge()).toBe(1);
	await driver.moveTo(new RngDevice());
	expect(driver.interrupts).toBe(interrupts + 1);
});

test("MmioTransport tells the driver when the new device's config space is another", async () => {
	const driver = new FakeDriver(new Slow()).start();
	await driver.moveTo(new Slow());
	expect(driver.read(VIRTIO_MMIO.ConfigGeneration)).toBe(0);
	await driver.moveTo(new Slow(Uint8Array.of(1, 3)));
	expect(driver.acknowledge()).toBe(INTERRUPT_CONFIG_CHANGE);
	expect([driver.read(VIRTIO_MMIO.ConfigGeneration), driver.config(0, 2)]).toEqual([1, Uint8Array.of(1, 3)]);
});

test("MmioTransport.quiesce ends when resume comes first, and the device goes on", async () => {
	const device = new Slow();
	const driver = new FakeDriver(device).start();
	driver.queue(0).add([writable(1)]);
	driver.queue(0).rawKick();
	const quiesced = driver.transport.quiesce();
	driver.transport.resume();
	await quiesced;
	driver.queue(0).add([writable(1)]);
	driver.queue(0).rawKick();
	expect(device.held).toHaveLength(2);
});

test("MmioTransport.save refuses before quiesce and while a device keeps chains", async () => {
	const device = new Slow();
	const driver = new FakeDriver(device).start();
	expect(() => driver.transport.save()).toThrow("Cannot save slow0: it was not quiesced");
	driver.queue(0).add([writable(1)]);
	driver.queue(0).rawKick();
	void driver.transport.quiesce();
	expect(() => driver.transport.save()).toThrow("Cannot save slow0: it has 1 chains in flight");
});

test("MmioTransport.save and restore refuse a device without them", async () => {
	const device: VirtioDevice = {
		name: "plain0",
		deviceId: 63,
		features: 0n,
		queueSizes: [1],
		config: new Uint8Array(0),
		activate: () => undefined,
		notify: () => undefined,
		reset: () => undefined,
		close: async () => undefined,
	};
	const { transport } = new FakeDriver(device).start();
	await transport.quiesce();
	expect(() => transport.save()).toThrow("Cannot save plain0: it has no save and restore");
	expect(() => transport.restore({})).toThrow("Cannot restore plain0: it has no save and restore");
});

test("MmioTransport.restore refuses a transport in use, another device, other queues, other RAM", async () => {
	const driver = new FakeDriver(new Slow()).start();
	await driver.transport.quiesce();
	const state = driver.transport.save();
	const on = (device: VirtioDevice, ram = driver.ram) => new FakeDriver(device, { ram });
	expect(() => driver.transport.restore(state)).toThrow("Cannot restore slow0: it is in use");
	const codes = [
		on(new RngDevice()),
		on(new Slow(Uint8Array.of(1, 2), [])),
		on(new Slow(Uint8Array.of(1, 2), [8])),
		on(new Slow(), new FakeRam([[1 << 20, 1 << 16]])),
		on(new Slow(new Uint8Array(3))),
	].map(({ transport }) => {
		try {
			transport.restore(state);
		} catch (error) {
			return (error as { code: string }).code;
		}
		return "taken";
	});
	expect(codes).toEqual([...Array(4).fill("ERR_STATE_MISMATCH"), "ERR_STATE_FORMAT"]);
});

test("MmioTransport.restore takes the state of a device with fewer queues, and its driver goes on with those", async () => {
	const driver = new FakeDriver(new Slow()).start();
	const next = new Slow(Uint8Array.of(1, 2), [16, 16]);
	await driver.moveTo(next);
	driver.queue(0).add([writable(1)]);
	driver.queue(0).kick();
	next.answer();
	next.queue!.flush();
	expect(driver.queue(0).collect()).toHaveLength(1);
	driver.write(VIRTIO_MMIO.QueueSel, 1);
	expect([driver.read(VIRTIO_MMIO.QueueNumMax), driver.read(VIRTIO_MMIO.QueueReady)]).toEqual([16, 0]);
});
