/*
 * The life of a Machine: start, pause, resume and stop in every order, and errors in events of the host, which end it
 * in order. Needs /dev/kvm.
 */
import { readdirSync, readFileSync } from "node:fs";
import { afterAll, afterEach, expect, test, vi } from "vitest";
import type { ConsoleBackend, ConsoleEvents } from "../../src/backends/contract.ts";
import { shutdownStatus } from "../../src/cli/shutdown-status.ts";
import { RunLoop } from "../../src/host/run-loop.ts";
import { kvm_pic_state } from "../../src/kvm/structs.ts";
import type { Vcpu } from "../../src/kvm/vcpu.ts";
import type { MachineConfig } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import { shutdownError } from "../../src/machine/shutdown-reason.ts";
import type { VirtioDevice } from "../../src/virtio/device.ts";
import { VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import { COUNT, COUNTER, POLL, POWER_OFF, SPIN, TinyKernels } from "./tiny-kernel.ts";
import { wired } from "./wired.ts";

const kernels = new TinyKernels();
afterAll(() => kernels.remove());
afterEach(() => vi.restoreAllMocks());

function config(kernel: string, change: Partial<MachineConfig> = {}): MachineConfig {
	return { kernel, memoryMiB: 64, ...change };
}

const descriptors = () => readdirSync("/proc/self/fd").length;
const vcpuMappings = () => readFileSync("/proc/self/maps", "latin1").split("kvm-vcpu").length - 1;
const state = { code: "ERR_MACHINE_STATE" };

test("Machine.start that fails half-way ends the machine and says why", async () => {
	const path = kernels.write("x", SPIN);
	await (await Machine.create(config(path))).stop();
	const before = descriptors();
	const start = RunLoop.prototype.start;
	vi.spyOn(RunLoop.prototype, "start").mockImplementation(function (this: RunLoop, index, fd, runBytes) {
		if (index === 2) throw Object.assign(new Error("Cannot start the thread of a vCPU: EAGAIN"), { code: "EAGAIN" });
		start.call(this, index, fd, runBytes);
	});
	const machine = await Machine.create(config(path, { cpus: 4 }));
	expect(() => machine.start()).toThrow(expect.objectContaining({ code: "ERR_VCPU_THREAD" }));
	const end = await machine.ended;
	expect(end).toEqual({
		reason: "start-failed",
		detail: "Cannot start vCPU 2 of 4: Cannot start the thread of a vCPU: EAGAIN",
	});
	expect([shutdownStatus(end), shutdownError(end)]).toEqual([125, undefined]);
	await expect.poll(() => [descriptors(), vcpuMappings()]).toEqual([before, 0]);
});

test("Machine.start after the end, or a second time, is refused", async () => {
	const machine = await Machine.create(config(kernels.write("x", SPIN)));
	expect(machine.state).toBe("created");
	machine.start();
	expect(machine.state).toBe("running");
	expect(() => machine.start()).toThrow("Cannot start the machine: it was started before");
	await machine.stop();
	expect(machine.state).toBe("ended");
	expect(() => machine.start()).toThrow("Cannot start the machine: it has ended (machine stopped)");
	expect(() => machine.start()).toThrow(expect.objectContaining(state));
});

test("Machine.start is refused after a machine was stopped that never ran", async () => {
	const machine = await Machine.create(config(kernels.write("x", SPIN)));
	expect(await machine.stop()).toEqual({ reason: "stopped" });
	expect(() => machine.start()).toThrow(expect.objectContaining(state));
});

test("Machine.pause and resume after the end are refused", async () => {
	const machine = await Machine.create(config(kernels.write("x", SPIN)));
	machine.start();
	await machine.pause();
	expect(machine.state).toBe("paused");
	const stopped = machine.stop();
	expect(() => machine.resume()).toThrow(expect.objectContaining(state));
	await stopped;
	expect(() => machine.resume()).toThrow(expect.objectContaining(state));
	await expect(machine.pause()).rejects.toMatchObject(state);
});

test("Machine.pause before start holds the vCPUs back until resume", async () => {
	const machine = await Machine.create(config(kernels.write("x", COUNT), { cpus: 2 }));
	const counter = () => machine.memory.u32(COUNTER);
	await machine.pause();
	machine.start();
	expect(machine.state).toBe("paused");
	await new Promise((resolve) => setTimeout(resolve, 50));
	expect(counter()).toBe(0);
	machine.resume();
	expect(machine.state).toBe("running");
	await expect.poll(counter).toBeGreaterThan(10);
	await machine.stop();
});

test("Machine.pause in the turn of start stops vCPUs that have hardly begun", async () => {
	const machine = await Machine.create(config(kernels.write("x", COUNT), { cpus: 4 }));
	machine.start();
	await machine.pause();
	const at = machine.memory.u32(COUNTER);
	await new Promise((resolve) => setTimeout(resolve, 50));
	expect(machine.memory.u32(COUNTER)).toBe(at);
	await machine.stop();
});

test("Machine.pause taken back before start lets start run the vCPUs", async () => {
	const machine = await Machine.create(config(kernels.write("x", POWER_OFF)));
	await machine.pause();
	machine.resume();
	machine.start();
	expect(await machine.ended).toEqual({ reason: "power-off" });
});

test("VcpuThreads parks no vCPU in an access that KVM has not completed", () =>
	wired(config(kernels.write("", POLL)), async ({ threads, memory, observers }) => {
		let reads = 0;
		observers.attach({
			access: (_bus, _device, write, address) => {
				if (!write && address === 0x60) reads++;
			},
		});
		const inAt = TinyKernels.ENDING + 4;
		threads.start();
		for (let i = 0; i < 20; i++) {
			const before = reads;
			await expect.poll(() => reads, { interval: 1 }).toBeGreaterThan(before);
			await threads.pause();
			/* At the `in` it has not begun; after it, it is done and not yet counted. */
			const rip = Number(threads.vcpus[0]!.getRegs().rip);
			if (rip === inAt) expect(memory.u32(COUNTER)).toBe(reads);
			else expect([rip, memory.u32(COUNTER)]).toEqual(rip === inAt + 1 ? [inAt + 1, reads - 1] : [rip, reads]);
			threads.resume();
		}
	}));

/** Brings the device in slot 0 to DRIVER_OK and resets it, with [COUNTER] one higher before and counting after. */
const RESET_DEVICE = (() => {
	const store = (offset: number, value: number) => [0xc7, 0x83, offset & 0xff, offset >> 8, 0, 0, value, 0, 0, 0];
	const increment = COUNT.slice(0, 6);
	const { Status, DriverFeaturesSel, DriverFeatures } = VIRTIO_MMIO;
	const steps = [
		[Status, 1],
		[Status, 3],
		[DriverFeaturesSel, 1],
		[DriverFeatures, 1] /* VIRTIO_F_VERSION_1 */,
		[Status, 11],
		[Status, 15],
	] as const;
	/* mov ebx, slot 0; stores by mov dword [ebx + offset], value */
	const start = [0xbb, 0, 0, 0, 0xd0, ...steps.flatMap(([offset, value]) => store(offset, value))];
	return [...start, ...increment, ...store(Status, 0), ...COUNT];
})();

/** A device whose reset is complete when the test says so. */
class Lingering implements VirtioDevice {
	readonly name = "lingering";
	readonly deviceId = 63;
	readonly features = 0n;
	readonly queueSizes = [8];
	readonly config = new Uint8Array(0);
	settle: (() => void) | undefined;

	activate = () => undefined;
	notify = () => undefined;
	reset(): Promise<void> {
		return new Promise((resolve) => {
			this.settle = resolve;
		});
	}
	close = async () => undefined;
}

test("a vCPU that resets a device goes on once the reset is complete, and pause waits for it", async () => {
	const device = new Lingering();
	const machine = await Machine.create(config(kernels.write("", RESET_DEVICE), { devices: [device] }));
	machine.start();
	await expect.poll(() => device.settle).toBeDefined();
	let paused = false;
	const pausing = machine.pause().then(() => {
		paused = true;
	});
	await new Promise((resolve) => setTimeout(resolve, 50));
	expect([machine.memory.u32(COUNTER), paused]).toEqual([1, false]);
	device.settle!();
	await pausing;
	/* The write is done, and the next instruction has not begun. */
	expect([machine.memory.u32(COUNTER), machine.state]).toEqual([1, "paused"]);
	machine.resume();
	await expect.poll(() => machine.memory.u32(COUNTER)).toBeGreaterThan(1);
	await machine.stop();
});

test("Machine.stop ends a machine whose vCPU waits for a reset, which then runs nowhere", async () => {
	const device = new Lingering();
	const machine = await Machine.create(config(kernels.write("", RESET_DEVICE), { devices: [device] }));
	machine.start();
	await expect.poll(() => device.settle).toBeDefined();
	expect(await machine.stop()).toEqual({ reason: "stopped" });
	device.settle!();
	await new Promise((resolve) => setImmediate(resolve));
});

test("build leaves the PICs masked and the rest of MISC_ENABLE as KVM gave it", () =>
	wired(config(kernels.write("x", SPIN)), ({ vm, threads }) => {
		const masks = [0, 1].map((chip) => vm.getIrqchip(chip).chip[kvm_pic_state.imr]);
		expect(masks).toEqual([0xff, 0xff]);
		const fresh = vm.createVcpu(9);
		const misc = (vcpu: Vcpu) => vcpu.getMsrs([0x1a0]).get(0x1a0);
		expect(misc(threads.vcpus[0]!)).toBe(misc(fresh)! | 1n);
		fresh.close();
	}));

test("Machine.create fails when a part of the machine fails at once", async () => {
	const stderr = vi.spyOn(process.stderr, "write").mockReturnValue(true);
	const closed: string[] = [];
	const console: ConsoleBackend = {
		start: (events) => events.input(undefined as unknown as Uint8Array),
		write: () => true,
		close: async () => void closed.push("console"),
	};
	const creating = Machine.create(config(kernels.write("x", SPIN), { console: { kind: "own", console } }));
	await expect(creating).rejects.toMatchObject({ code: "ERR_DEVICE_FAILED" });
	expect([closed, stderr.mock.calls.length]).toEqual([["console"], 1]);
});

test("Machine ends in order when a console's input cannot be taken", async () => {
	let events!: ConsoleEvents;
	const console: ConsoleBackend = {
		start: (to) => {
			events = to;
		},
		write: () => true,
		close: async () => undefined,
	};
	const stderr = vi.spyOn(process.stderr, "write").mockReturnValue(true);
	const machine = await Machine.create(config(kernels.write("x", SPIN), { console: { kind: "own", console } }));
	machine.start();
	/* A console that breaks its promise: no bytes at all. */
	events.input(undefined as unknown as Uint8Array);
	expect((await machine.ended).reason).toBe("device-failed");
	expect(String(stderr.mock.calls[0]![0])).toContain("serial input: TypeError");
	/* After the end nothing enters. */
	events.input(undefined as unknown as Uint8Array);
	expect(stderr.mock.calls).toHaveLength(1);
});
