/*
 * Machine with kernels of a few instructions: they write to the serial port and end in every way that a guest can.
 * Needs /dev/kvm.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import type { ConsoleBackend } from "../../src/backends/contract.ts";
import { shutdownStatus } from "../../src/cli/shutdown-status.ts";
import type { MachineConfig } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import { describeShutdown, shutdownError } from "../../src/machine/shutdown-reason.ts";
import { RngDevice } from "../../src/virtio/rng.ts";
import {
	COUNT,
	COUNTER,
	FLOOD,
	KEYBOARD_RESET,
	POLL,
	POWER_OFF,
	RESET,
	SPIN,
	TinyKernels,
	TRIPLE_FAULT,
} from "./tiny-kernel.ts";

const kernels = new TinyKernels();
afterAll(() => kernels.remove());

class Transcript implements ConsoleBackend {
	text = "";
	write(bytes: Uint8Array): boolean {
		this.text += Buffer.from(bytes).toString("latin1");
		return true;
	}
	async close(): Promise<void> {
		/* nothing was opened */
	}
}

const config = (kernel: string): MachineConfig => ({ kernel, memoryMiB: 64 });

async function run(path: string, change: Partial<MachineConfig> = {}) {
	const console = new Transcript();
	const machine = await Machine.create({ ...config(path), console: { kind: "own", console }, ...change });
	machine.start();
	return { end: await machine.ended, text: console.text };
}

describe("Machine", () => {
	it("runs a kernel that prints and powers off", async () => {
		const { end, text } = await run(kernels.write("hello from ring 0\n", POWER_OFF));
		expect(text).toBe("hello from ring 0\n");
		expect(end).toEqual({ reason: "power-off" });
		expect(shutdownStatus(end)).toBe(0);
	});

	it("tells a reset by the ACPI register and by the keyboard controller", async () => {
		expect((await run(kernels.write("x", RESET))).end).toEqual({ reason: "reset" });
		expect((await run(kernels.write("x", KEYBOARD_RESET))).end).toEqual({ reason: "reset" });
	});

	it("tells a panic from the reset that follows it", async () => {
		const { end } = await run(kernels.write("[ 1.0] Kernel panic - not syncing: no init\n", RESET));
		expect(end).toEqual({ reason: "panic", detail: "no init" });
		expect(describeShutdown(end)).toBe("guest kernel panic: no init");
		expect(shutdownStatus(end)).toBe(101);
	});

	it("tells a triple fault", async () => {
		const { end } = await run(kernels.write("x", TRIPLE_FAULT));
		expect(end).toMatchObject({ reason: "triple-fault" });
		expect(shutdownStatus(end)).toBe(102);
	});

	it("stops a guest that spins, and frees every file descriptor and mapping", async () => {
		const path = kernels.write("spinning", SPIN);
		const descriptors = () => readdirSync("/proc/self/fd").length;
		const mappings = () => readFileSync("/proc/self/maps", "latin1").split("kvm-vcpu").length;
		await (await Machine.create(config(path))).stop();
		const before = [descriptors(), mappings()];
		for (let i = 0; i < 5; i++) {
			const machine = await Machine.create({ ...config(path), cpus: 4, rng: true });
			machine.start();
			await new Promise((resolve) => setTimeout(resolve, 20));
			expect(await machine.stop()).toEqual({ reason: "stopped" });
		}
		await expect.poll(() => [descriptors(), mappings()]).toEqual(before);
	});

	it("pauses vCPUs where they are and lets them run on", async () => {
		const machine = await Machine.create(config(kernels.write("x", COUNT)));
		const counter = () => machine.memory.u32(COUNTER);
		machine.start();
		await expect.poll(counter).toBeGreaterThan(10);
		await machine.pause();
		const at = counter();
		await new Promise((resolve) => setTimeout(resolve, 50));
		expect(counter()).toBe(at);
		machine.resume();
		await expect.poll(counter).toBeGreaterThan(at);
		await machine.pause();
		expect(await machine.stop()).toEqual({ reason: "stopped" });
	});

	it("handles the exit of a paused vCPU once, whatever the others do meanwhile", async () => {
		const stderr = vi.spyOn(process.stderr, "write").mockReturnValue(true);
		const machine = await Machine.create({ ...config(kernels.write("x", POLL)), cpus: 4, trace: ["pio"] });
		const counter = () => machine.memory.u32(COUNTER);
		machine.start();
		for (let i = 0; i < 10; i++) {
			const at = counter();
			await expect.poll(counter, { interval: 2 }).toBeGreaterThan(at + 2);
			await Promise.all([machine.pause(), machine.pause()]);
			machine.resume();
		}
		await machine.pause();
		/* The guest counts a read once it has its answer, so one may be ahead. */
		const reads = stderr.mock.calls.filter(([line]) => String(line).includes("read 0x60 ")).length;
		expect(reads - counter()).toBeLessThanOrEqual(1);
		expect(await machine.stop()).toEqual({ reason: "stopped" });
		stderr.mockRestore();
	});

	it("resolves a pause that is taken back before all vCPUs have stopped", async () => {
		const machine = await Machine.create({ ...config(kernels.write("x", SPIN)), cpus: 2 });
		machine.start();
		const paused = machine.pause();
		machine.resume();
		await paused;
		expect(await machine.stop()).toEqual({ reason: "stopped" });
	});

	it("stops on request while a guest prints without end", async () => {
		const console = new Transcript();
		console.write = () => true;
		const machine = await Machine.create({ ...config(kernels.write("x", FLOOD)), console: { kind: "own", console } });
		machine.start();
		await new Promise((resolve) => setTimeout(resolve, 100));
		expect(await machine.stop()).toEqual({ reason: "stopped" });
	});

	it("ends in order when a device throws, and says which", async () => {
		/* mov eax, [0xd0000100]: the first byte of the config space of the first virtio device */
		const readConfig = [0xa1, 0x00, 0x01, 0x00, 0xd0];
		const closed: string[] = [];
		class Defective extends RngDevice {
			constructor() {
				super("defective0");
				const get = () => {
					throw new Error("of the test");
				};
				Object.defineProperty(this, "config", { get });
			}
			override async close(): Promise<void> {
				closed.push(this.name);
			}
		}
		const before = readdirSync("/proc/self/fd").length;
		const stderr = vi.spyOn(process.stderr, "write").mockReturnValue(true);
		const machine = await Machine.create({
			...config(kernels.write("x", readConfig)),
			devices: [new Defective()],
		});
		machine.start();
		const end = await machine.ended;
		expect(String(stderr.mock.calls[0]![0])).toContain("Error: of the test");
		stderr.mockRestore();
		expect(end).toEqual({ reason: "device-failed", detail: "exit of vCPU 0: of the test" });
		expect([shutdownStatus(end), shutdownError(end)?.code]).toEqual([125, "ERR_DEVICE_FAILED"]);
		expect(closed).toEqual(["defective0"]);
		await expect.poll(() => readdirSync("/proc/self/fd").length).toBe(before);
	});

	it("leaves nothing when a step of create fails", async () => {
		const path = kernels.write("x", POWER_OFF);
		const before = readdirSync("/proc/self/fd").length;
		await expect(Machine.create({ ...config(path), initrd: join(kernels.directory, "missing") })).rejects.toMatchObject(
			{
				code: "ERR_INITRD_OPEN",
			},
		);
		await expect(
			Machine.create({
				...config(path),
				rng: true,
				disks: [{ path: join(kernels.directory, "no-disk"), readOnly: false }],
			}),
		).rejects.toMatchObject({ code: "ERR_DISK_OPEN" });
		expect(readdirSync("/proc/self/fd").length).toBe(before);
	});

	it("runs with more memory than fits below 4 GiB", async () => {
		const { end, text } = await run(kernels.write("large\n", POWER_OFF), { memoryMiB: 6144 });
		expect([end.reason, text]).toEqual(["power-off", "large\n"]);
	});
});
