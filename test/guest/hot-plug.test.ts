/* Devices that come to a machine and go while its guest looks at their slots. Needs /dev/kvm. */
import { afterAll, afterEach, expect, test } from "vitest";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { Machine } from "../../src/machine/machine.ts";
import { VIRTIO_SLOTS } from "../../src/machine/memory-map.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { RngDevice } from "../../src/virtio/rng.ts";
import { COUNTER, SPIN, TinyKernels } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
afterAll(() => kernels.remove());

const RNG = 4;
const NOTHING = 0xffff_ffff;
const u32 = (value: number) => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
/** Copies DeviceID of slot 0 and of slot 1, PRES and CHNG to COUNTER and on, again and again. */
const WATCH = [
	...[0xa1, ...u32(0xd0000008), 0xa3, ...u32(COUNTER)],
	...[0xa1, ...u32(0xd0001008), 0xa3, ...u32(COUNTER + 4)],
	...[0x66, 0xba, 0x10, 0x06, 0xed, 0xa3, ...u32(COUNTER + 8)],
	...[0x66, 0xba, 0x14, 0x06, 0xed, 0xa3, ...u32(COUNTER + 12)],
	...[0xeb, 0xd6],
];
/** Says ACKNOWLEDGE to the device in slot 1, if there is one, again and again. */
const ACKNOWLEDGE = [0xb8, ...u32(1), 0xa3, ...u32(0xd0001070), 0xeb, 0xf4];

const machines: Machine[] = [];
afterEach(async () => {
	for (const machine of machines.splice(0)) await machine.stop();
});

async function started(ending: readonly number[]) {
	const machine = await Machine.create({ kernel: kernels.write("", ending), memoryMiB: 64, rng: true });
	machines.push(machine);
	machine.start();
	const seen = () => [0, 4, 8, 12].map((at) => machine.memory.u32(COUNTER + at));
	return { machine, seen };
}

test("Machine.addDevice and removeDevice show at the slot's registers and at those of the event device", async () => {
	const { machine, seen } = await started(WATCH);
	await expect.poll(seen).toEqual([RNG, NOTHING, 1, 0]);
	machine.addDevice("late", new RngDevice("late"));
	await expect.poll(seen).toEqual([RNG, RNG, 3, 2]);
	expect(machine.deviceIds).toEqual(["rng", "late"]);
	expect(machine.device("late", RngDevice).name).toBe("late");
	await machine.removeDevice("late");
	await expect.poll(seen).toEqual([RNG, 0, 1, 2]);
	await machine.removeDevice("rng");
	await expect.poll(seen).toEqual([0, 0, 0, 3]);
	expect(machine.deviceIds).toEqual([]);
});

test("Machine.removeDevice waits for the driver unless it is forced, and an abort gives the device back", async () => {
	const { machine } = await started(ACKNOWLEDGE);
	const disk = new MemoryDisk(4096);
	let closed = false;
	const close = disk.close.bind(disk);
	disk.close = async () => {
		closed = true;
		await close();
	};
	const touched = new Promise<void>((resolve) => {
		machine.observe({ status: (device, status) => device === "virtio-blk0" && status === 1 && resolve() });
	});
	machine.addDevice("late", new BlockDevice(disk));
	await touched;
	const abort = new AbortController();
	const removal = machine.removeDevice("late", { signal: abort.signal });
	const again = machine.removeDevice("late").catch((error: { code: string }) => error.code);
	expect(await again).toBe("ERR_DEVICE_LEAVING");
	await expect(machine.replaceDevice("late", new RngDevice())).rejects.toMatchObject({ code: "ERR_DEVICE_LEAVING" });
	abort.abort(new Error("enough"));
	await expect(removal).rejects.toThrow("enough");
	expect(machine.deviceIds).toEqual(["rng", "late"]);
	expect(closed).toBe(false);
	await machine.removeDevice("late", { force: true });
	expect([closed, machine.deviceIds]).toEqual([true, ["rng"]]);
});

test("Machine fills every slot and uses emptied ones again, a later device's kicks and interrupts included", async () => {
	const { machine } = await started(SPIN);
	for (let round = 0; round < 2 * VIRTIO_SLOTS; round++) {
		machine.addDevice("late", new RngDevice(`round ${round}`));
		await machine.removeDevice("late");
	}
	for (let slot = 1; slot < VIRTIO_SLOTS; slot++) machine.addDevice(`rng${slot}`, new RngDevice());
	const codes = [
		() => machine.addDevice("more", new RngDevice()),
		() => machine.addDevice("rng1", new RngDevice()),
		() => machine.addDevice("no name", new RngDevice()),
	].map((add) => {
		try {
			add();
		} catch (error) {
			return (error as { code: string }).code;
		}
		return "added";
	});
	expect(codes).toEqual(["ERR_TOO_MANY_DEVICES", "ERR_CONFIG_ID", "ERR_CONFIG_ID"]);
	await expect(machine.removeDevice("more")).rejects.toMatchObject({ code: "ERR_DEVICE_ID" });
});

test("Machine closes devices that came while it ran, and ends while one waits for its driver", async () => {
	const { machine } = await started(ACKNOWLEDGE);
	const touched = new Promise<void>((resolve) => {
		machine.observe({ status: (device, status) => device === "waits" && status === 1 && resolve() });
	});
	const closed: string[] = [];
	const device = (name: string) => {
		const rng = new RngDevice(name);
		rng.close = async () => void closed.push(name);
		return rng;
	};
	machine.addDevice("waits", device("waits"));
	machine.addDevice("stays", device("stays"));
	await touched;
	const removal = machine.removeDevice("waits");
	expect(await machine.stop()).toEqual({ reason: "stopped" });
	await removal;
	expect(closed.sort()).toEqual(["stays", "waits"]);
	expect(() => machine.addDevice("late", new RngDevice())).toThrow("Cannot add a device to the machine: it has ended");
});

test("Machine.replaceDevice keeps slot, id and the driver's state, and gives up when the new device is of another kind", async () => {
	const { machine, seen } = await started(WATCH);
	const closed: string[] = [];
	const rng = (name: string) => {
		const device = new RngDevice(name);
		device.close = async () => void closed.push(name);
		return device;
	};
	machine.addDevice("late", rng("first"));
	await expect.poll(seen).toEqual([RNG, RNG, 3, 2]);
	const twice = [machine.replaceDevice("late", rng("second")), machine.replaceDevice("late", rng("third"))];
	expect((await Promise.allSettled(twice)).map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
	expect([closed, machine.deviceIds, machine.device("late").name]).toEqual([["first"], ["rng", "late"], "second"]);
	const disk = new BlockDevice(new MemoryDisk(4096));
	await expect(machine.replaceDevice("late", disk)).rejects.toMatchObject({ code: "ERR_STATE_MISMATCH" });
	const plain = rng("plain");
	Object.assign(plain, { restore: undefined });
	await expect(machine.replaceDevice("late", plain)).rejects.toMatchObject({ code: "ERR_STATE_UNSUPPORTED" });
	await expect(machine.replaceDevice("none", disk)).rejects.toMatchObject({ code: "ERR_DEVICE_ID" });
	expect([closed, machine.device("late").name]).toEqual([["first"], "second"]);
	await machine.removeDevice("late");
	await expect.poll(seen).toEqual([RNG, 0, 1, 2]);
	expect(closed).toEqual(["first", "second"]);
});
