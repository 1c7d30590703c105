import { afterEach, describe, expect, test, vi } from "vitest";
import { setLogLevel } from "../../src/base/log.ts";
import type { Activation, VirtioDevice } from "../../src/virtio/device.ts";
import { MmioTransport } from "../../src/virtio/mmio.ts";
import {
	ACKNOWLEDGE,
	DEVICE_NEEDS_RESET,
	DRIVER,
	DRIVER_OK,
	FAILED,
	FEATURES_OK,
	VIRTIO_F_EVENT_IDX,
	VIRTIO_F_INDIRECT_DESC,
	VIRTIO_F_VERSION_1,
	VIRTIO_MMIO,
} from "../../src/virtio/spec.ts";
import { type DriverOptions, FakeDriver, type QueuePlace } from "../driver/fake-driver.ts";
import { readable } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { RecordedEnter } from "../driver/recorded-enter.ts";

setLogLevel("error");

/** A device that records what happens to it, and returns every chain empty. */
class Recorder implements VirtioDevice {
	readonly name = "recorder";
	readonly deviceId = 42;
	readonly features = (1n << 3n) | (1n << 50n);
	readonly queueSizes = [16, 8];
	readonly config = Uint8Array.from({ length: 10 }, (_, i) => 0x10 + i);
	readonly events: string[] = [];
	activation: Activation | undefined;

	activate(activation: Activation): void {
		this.activation = activation;
		this.events.push(`activate ${activation.queues.map((q) => q?.size ?? "-").join(" ")}`);
	}
	notify(index: number): void {
		this.events.push(`notify ${index}`);
		const queue = this.activation?.queues[index];
		for (let chain = queue?.pop(); chain; chain = queue?.pop()) queue?.push(chain, 0);
		queue?.flush();
	}
	writeConfig(offset: number, data: Uint8Array): void {
		this.events.push(`writeConfig ${offset} ${[...data]}`);
	}
	reset(): void {
		this.events.push("reset");
	}
	async close(): Promise<void> {
		this.events.push("close");
	}
}

function fresh() {
	const device = new Recorder();
	return { device, driver: new FakeDriver(device) };
}

describe("MmioTransport registers", () => {
	test("identify a version 2 device", () => {
		const { driver } = fresh();
		expect(driver.read(VIRTIO_MMIO.MagicValue)).toBe(0x74726976);
		expect(driver.read(VIRTIO_MMIO.Version)).toBe(2);
		expect(driver.read(VIRTIO_MMIO.DeviceID)).toBe(42);
		expect(driver.transport.queueCount).toBe(2);
		expect(MmioTransport.queueNotifyOffset).toBe(0x50);
	});

	test("offer the device's features and the transport's, in words of 32 bits", () => {
		const { driver } = fresh();
		const always = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC;
		expect(driver.deviceFeatures()).toBe((1n << 3n) | (1n << 50n) | always);
		driver.write(VIRTIO_MMIO.DeviceFeaturesSel, 2);
		expect(driver.read(VIRTIO_MMIO.DeviceFeatures)).toBe(0);
	});

	test("say the largest size of each queue, and 0 for a queue that is not there", () => {
		const { driver } = fresh();
		const sizes = [0, 1, 2, 0xffff_ffff].map((index) => {
			driver.write(VIRTIO_MMIO.QueueSel, index);
			return driver.read(VIRTIO_MMIO.QueueNumMax);
		});
		expect(sizes).toEqual([16, 8, 0, 0]);
	});

	test("have no shared memory, and read 0 where nothing is", () => {
		const { driver } = fresh();
		expect(driver.read(VIRTIO_MMIO.SHMLenLow)).toBe(0xffff_ffff);
		expect(driver.read(VIRTIO_MMIO.SHMLenHigh)).toBe(0xffff_ffff);
		expect(driver.read(0x0d0)).toBe(0);
		expect(driver.transport.read(VIRTIO_MMIO.MagicValue, 1)).toBe(0);
		expect(driver.transport.read(VIRTIO_MMIO.MagicValue, 2)).toBe(0);
	});

	test("give the config space in reads of 1, 2 and 4 bytes, with zeroes behind its end", () => {
		const { driver } = fresh();
		expect(driver.transport.read(0x100, 1)).toBe(0x10);
		expect(driver.transport.read(0x101, 2)).toBe(0x1211);
		expect(driver.transport.read(0x104, 4)).toBe(0x17161514);
		expect(driver.transport.read(0x108, 4)).toBe(0x1918);
		expect(driver.transport.read(0x1fc, 4)).toBe(0);
	});

	test("hand config writes inside the config space to the device, once there is a driver", () => {
		const { device, driver } = fresh();
		driver.transport.write(0x102, 2, 0xabcd);
		driver.negotiate();
		driver.transport.write(0x102, 2, 0xabcd);
		driver.transport.write(0x108, 4, 1);
		driver.transport.write(0x1f0, 1, 1);
		expect(device.events).toEqual(["writeConfig 2 205,171"]);
	});
});

describe("MmioTransport status", () => {
	test("goes from reset to DRIVER_OK as Linux writes it, then activates and notifies every queue once", () => {
		const { device, driver } = fresh();
		driver.start();
		expect(driver.status).toBe(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
		expect(device.events).toEqual(["activate 16 8", "notify 0", "notify 1"]);
		expect(device.activation?.features).toBe(driver.deviceFeatures());
	});

	test("takes buffers that were added before DRIVER_OK", () => {
		const { driver } = fresh();
		driver.negotiate();
		const queue = driver.setUpQueue(0);
		queue.add([readable("early")]);
		queue.rawKick();
		expect(queue.usedIdx).toBe(0);
		driver.addStatus(DRIVER_OK);
		expect(queue.usedIdx).toBe(1);
	});

	test("activates with the queues that are ready only", () => {
		const { device, driver } = fresh();
		driver.negotiate();
		driver.setUpQueue(1);
		driver.addStatus(DRIVER_OK);
		driver.write(VIRTIO_MMIO.QueueNotify, 0);
		expect(device.events).toEqual(["activate - 8", "notify 1"]);
	});

	const illegal: [string, number[]][] = [
		["DRIVER before ACKNOWLEDGE", [DRIVER]],
		["FEATURES_OK from nothing", [ACKNOWLEDGE | DRIVER | FEATURES_OK]],
		["DRIVER_OK without FEATURES_OK", [3, 7]],
		["taking a bit back", [3, ACKNOWLEDGE]],
		["bits that are not defined", [3, 0x13]],
		["0xffffffff", [0xffff_ffff]],
	];
	test.each(illegal)("ignores %s", (_what, writes) => {
		const { device, driver } = fresh();
		for (const value of writes) driver.write(VIRTIO_MMIO.Status, value);
		const before = writes.length > 1 ? writes[0]! : 0;
		expect(driver.status & ~FAILED).toBe(before);
		expect(device.events).toEqual([]);
	});

	test("refuses FEATURES_OK without VERSION_1 and with features that were not offered", () => {
		for (const features of [1n << 3n, VIRTIO_F_VERSION_1 | (1n << 4n), 0n, VIRTIO_F_VERSION_1 | (1n << 63n)]) {
			const { driver } = fresh();
			driver.write(VIRTIO_MMIO.Status, 3);
			driver.setDriverFeatures(features);
			expect(driver.addStatus(FEATURES_OK)).toBe(3);
			driver.setDriverFeatures(VIRTIO_F_VERSION_1);
			expect(driver.addStatus(FEATURES_OK)).toBe(3 | FEATURES_OK);
		}
	});

	test("does not let features change after FEATURES_OK", () => {
		const { device, driver } = fresh();
		driver.negotiate();
		driver.setDriverFeatures(0n);
		driver.setUpQueue(0);
		driver.addStatus(DRIVER_OK);
		expect(device.activation?.features).toBe(driver.deviceFeatures());
	});

	test("FAILED stays until a reset and lets nothing happen", () => {
		const { device, driver } = fresh();
		driver.write(VIRTIO_MMIO.Status, ACKNOWLEDGE);
		driver.addStatus(FAILED);
		driver.addStatus(DRIVER);
		expect(driver.status).toBe(ACKNOWLEDGE | FAILED);
		driver.start();
		expect(device.events).toContain("notify 1");
	});

	test("0 resets: queues are gone, features forgotten, interrupts cleared, late pushes ignored", () => {
		const { device, driver } = fresh();
		driver.start();
		const queue = driver.queue(0);
		queue.add([readable("x")]);
		const chain = device.activation!.queues[0]!.pop()!;
		device.activation!.configChanged();
		const old = device.activation!;
		const interrupts = driver.interrupts;
		driver.reset();
		expect(driver.read(VIRTIO_MMIO.InterruptStatus)).toBe(0);
		expect(driver.read(VIRTIO_MMIO.QueueReady)).toBe(0);
		old.queues[0]!.push(chain, 0);
		old.queues[0]!.flush();
		old.configChanged();
		old.needsReset("late");
		expect([queue.usedIdx, driver.interrupts, driver.status]).toEqual([0, interrupts, 0]);
		driver.write(VIRTIO_MMIO.QueueNotify, 0);
		driver.write(VIRTIO_MMIO.QueueSel, 0);
		driver.write(VIRTIO_MMIO.QueueReady, 0); /* as vm_del_vq does */
		expect(device.events.at(-1)).toBe("reset");
		driver.reset();
		expect(device.events.filter((e) => e === "reset")).toHaveLength(1);
	});
});

describe("MmioTransport queues", () => {
	const bad: [what: string, index: number, (place: QueuePlace) => Partial<QueuePlace>][] = [
		["of size 0", 0, () => ({ size: 0 })],
		["of size 3", 0, () => ({ size: 3 })],
		["larger than QueueNumMax", 1, () => ({ size: 16 })],
		["with a misaligned descriptor table", 0, ({ desc }) => ({ desc: desc + 1 })],
		["with a misaligned used ring", 0, ({ used }) => ({ used: used + 2 })],
		["in no RAM", 0, () => ({ used: 0x7000_0000_0000 })],
	];
	test.each(bad)("a queue %s ends in DEVICE_NEEDS_RESET, with a config interrupt at DRIVER_OK", (_, index, wrong) => {
		const { device, driver } = fresh();
		driver.negotiate();
		const alloc = () => driver.ram.alloc(256);
		const place = { size: 8, desc: alloc(), avail: alloc(), used: alloc() };
		driver.placeQueue(index, { ...place, ...wrong(place) });
		expect(driver.read(VIRTIO_MMIO.QueueReady)).toBe(0);
		expect(driver.needsReset).toBe(true);
		expect(driver.interrupts).toBe(0);
		driver.addStatus(DRIVER_OK);
		expect(driver.acknowledge()).toBe(2);
		expect(device.events).toEqual([]);
		driver.start();
		expect(driver.status & (DRIVER_OK | DEVICE_NEEDS_RESET)).toBe(DRIVER_OK);
		expect(device.events).toContain("activate 16 8");
	});

	test("take their addresses as 64 bits, above 4 GiB too", () => {
		const ram = new FakeRam([
			[0, 65536],
			[0x12_3400_0000, 65536],
		]);
		const driver = new FakeDriver(new Recorder(), { ram, ringRegion: 1 }).start();
		driver.queue(0).add([readable("x")]);
		driver.queue(0).kick();
		expect(driver.queue(0).collect()).toHaveLength(1);
	});

	test("cannot be placed before FEATURES_OK, moved while ready, or changed after DRIVER_OK", () => {
		const { device, driver } = fresh();
		const place = { size: 8, desc: 0x1000, avail: 0x2000, used: 0x3000 };
		driver.placeQueue(0, place);
		expect(driver.read(VIRTIO_MMIO.QueueReady)).toBe(0);
		driver.negotiate();
		const queue = driver.setUpQueue(0);
		driver.placeQueue(0, { size: 4, desc: 1, avail: 1, used: 1 });
		driver.addStatus(DRIVER_OK);
		driver.write(VIRTIO_MMIO.QueueReady, 0);
		driver.placeQueue(1, place);
		expect(device.activation!.queues.map((q) => q?.size)).toEqual([16, undefined]);
		queue.add([readable("x")]);
		queue.rawKick();
		expect(queue.collect()).toHaveLength(1);
		expect(driver.needsReset).toBe(false);
	});

	test("QueueNotify of a queue that is not there is ignored", () => {
		const { device, driver } = fresh();
		driver.start();
		const before = device.events.length;
		for (const index of [2, 255, 0xffff_ffff]) driver.write(VIRTIO_MMIO.QueueNotify, index);
		driver.transport.write(VIRTIO_MMIO.QueueNotify, 2, 0);
		expect(device.events.length).toBe(before);
	});
});

describe("MmioTransport interrupts", () => {
	test("InterruptStatus has a bit per cause, which InterruptACK clears, in a word that others may share", () => {
		const word = new Int32Array(new SharedArrayBuffer(4));
		const { memory } = new FakeRam();
		let raised = 0;
		const line = { raise: () => void raised++ };
		const transport = new MmioTransport(new Recorder(), { memory, line, interruptStatus: word });
		Atomics.store(word, 0, 3);
		expect(transport.read(VIRTIO_MMIO.InterruptStatus, 4)).toBe(3);
		transport.write(VIRTIO_MMIO.InterruptACK, 4, 1);
		expect(Atomics.load(word, 0)).toBe(2);
		expect(raised).toBe(0);
	});

	test("configChanged counts ConfigGeneration up and interrupts", () => {
		const { device, driver } = fresh();
		driver.start();
		const before = driver.read(VIRTIO_MMIO.ConfigGeneration);
		device.activation!.configChanged();
		expect(driver.read(VIRTIO_MMIO.ConfigGeneration)).toBe(before + 1);
		expect([driver.interrupts, driver.acknowledge(), driver.acknowledge()]).toEqual([1, 2, 0]);
	});

	test("needsReset interrupts once, and the device hears nothing until the reset", () => {
		const { device, driver } = fresh();
		driver.start();
		device.activation!.needsReset("a test says so");
		device.activation!.needsReset("and again");
		expect(driver.status & DEVICE_NEEDS_RESET).toBe(DEVICE_NEEDS_RESET);
		expect([driver.interrupts, driver.acknowledge()]).toEqual([1, 2]);
		driver.queue(0).add([readable("x")]);
		driver.queue(0).rawKick();
		driver.addStatus(0x40); /* writing it back changes nothing */
		expect(driver.queue(0).usedIdx).toBe(0);
		expect(device.events.filter((e) => e === "notify 0")).toHaveLength(1);
	});
});

/** Its resets are complete when the test says so. */
class Lingering extends Recorder {
	settle: () => void = () => undefined;
	fail: (error: Error) => void = () => undefined;

	override reset(): Promise<void> {
		super.reset();
		return new Promise((resolve, reject) => {
			this.settle = resolve;
			this.fail = reject;
		});
	}
}

describe("MmioTransport with a device whose reset takes its time", () => {
	afterEach(() => vi.useRealTimers());

	function resetting(options: DriverOptions = {}) {
		const device = new Lingering();
		const driver = new FakeDriver(device, options).start();
		const statuses: number[] = [];
		driver.observers.attach({ status: (_device, status) => void statuses.push(status) });
		let wentOn = false;
		const reset = driver.resetSlowly().then(() => {
			wentOn = true;
		});
		return { device, driver, reset, statuses, wentOn: () => wentOn };
	}

	test("shows the old status until then, takes nothing of the driver, and tells of the reset once", async () => {
		const { device, driver, reset, statuses } = resetting();
		expect(driver.status).toBe(15);
		driver.write(VIRTIO_MMIO.Status, ACKNOWLEDGE);
		driver.transport.write(VIRTIO_MMIO.Config + 4, 4, 1);
		driver.write(VIRTIO_MMIO.QueueNotify, 0);
		expect([driver.status, statuses]).toEqual([15, []]);
		expect(device.events.slice(-1)).toEqual(["reset"]);
		device.settle();
		await reset;
		expect([driver.status, statuses]).toEqual([0, [0]]);
		driver.start();
		expect(driver.status).toBe(15);
	});

	test("lets the driver go on after 30 s, which finds that the device was not reset", async () => {
		vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
		const { device, driver, reset, wentOn } = resetting();
		await vi.advanceTimersByTimeAsync(29_999);
		expect(wentOn()).toBe(false);
		await vi.advanceTimersByTimeAsync(1);
		await reset;
		driver.write(VIRTIO_MMIO.Status, ACKNOWLEDGE);
		expect(driver.status).toBe(15);
		device.settle();
		await driver.transport.released();
		expect(driver.status).toBe(0);
	});

	test("is quiesced, and released by its driver, only then", async () => {
		const { device, driver } = resetting();
		const done: string[] = [];
		const quiesced = driver.transport.quiesce().then(() => done.push("quiesced"));
		const released = driver.transport.released().then(() => done.push("released"));
		await new Promise<void>((resolve) => setImmediate(resolve));
		expect(done).toEqual([]);
		device.settle();
		await Promise.all([quiesced, released]);
		expect(driver.transport.status).toBe(0);
	});

	test("fails in order when its reset fails", async () => {
		const entered = new RecordedEnter();
		const { device } = resetting({ enter: entered.enter });
		device.fail(new Error("a test says so"));
		await expect.poll(() => entered.failures).toEqual(["recorder: a test says so"]);
	});
});

/** Answers each chain at once, and has the driver add the next one before it looks for more. */
class Endless extends Recorder {
	override readonly queueSizes = [1024, 8];
	answered = 0;
	refill: () => void = () => undefined;

	override notify(index: number): void {
		const queue = this.activation?.queues[index];
		for (let chain = queue?.pop(); chain; chain = queue?.pop()) {
			this.answered++;
			queue?.push(chain, 0);
			queue?.flush();
			this.refill();
		}
	}
}

const KIB = 1024;

test.each([
	{ what: "chains", parts: [1], perTurn: 1024, total: 3000 },
	{ what: "descriptors", parts: Array<number>(64).fill(1), perTurn: 64, total: 150 },
	{
		what: "descriptors of an indirect table",
		parts: Array<number>(1024).fill(1),
		indirect: true,
		perTurn: 4,
		total: 10,
	},
	{ what: "empty descriptors", parts: Array<number>(256).fill(0), perTurn: 16, total: 40 },
	{ what: "bytes", parts: [512 * KIB, 512 * KIB], perTurn: 16, total: 40 },
])(
	"MmioTransport bounds a turn by its $what, and goes on with a driver that never stops adding in the next one",
	async ({ parts, indirect = false, perTurn, total }) => {
		const device = new Endless();
		const driver = new FakeDriver(device, { ram: new FakeRam([[0, 2048 * KIB]]) }).start();
		const queue = driver.queue(0);
		const gpa = driver.ram.alloc(512 * KIB);
		const table = driver.ram.alloc(16 * 1024);
		const chain = parts.map((length) => ({ gpa, length, write: true }));
		device.refill = () => {
			queue.collect();
			if (device.answered < total) queue.add(chain, indirect, table);
		};
		device.refill();
		queue.kick();
		expect(device.answered).toBe(perTurn);
		await new Promise<void>((resolve) => setImmediate(resolve));
		expect(device.answered).toBe(2 * perTurn);
		await expect.poll(() => device.answered).toBe(total);
	},
);
