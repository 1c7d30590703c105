/*
 * Machine with kernels of a few instructions: they write to the serial port and end in every way that a guest can.
 * Needs /dev/kvm.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import type { HostConsole } from "../../src/backends/console.ts";
import type { MachineConfig } from "../../src/machine/config.ts";
import { describeEnd, endError, endStatus } from "../../src/machine/ending.ts";
import { Machine } from "../../src/machine/machine.ts";
import { RngDevice } from "../../src/virtio/rng.ts";
import { elfImage } from "../boot/images.ts";

const BASE = 0x1000000;
const folder = mkdtempSync(join(tmpdir(), "tsvmm-machine-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** 32-bit code that prints `text` on COM1, then runs `ending`. */
function kernel(name: string, text: string, ending: number[]): string {
	const code = [0xbe, 0, 0, 0, 0, 0x66, 0xba, 0xf8, 0x03, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8];
	code.push(...ending, 0xf4, 0xeb, 0xfd);
	const image = Buffer.concat([Buffer.from(code), Buffer.from(`${text}\0`)]);
	image.writeUInt32LE(BASE + code.length, 1);
	const path = join(folder, name);
	writeFileSync(path, elfImage({ paddr: BASE, code: image, pvhEntry: BASE }));
	return path;
}

const outb = (port: number, value: number) => [0x66, 0xba, port & 0xff, port >> 8, 0xb0, value, 0xee];
const POWER_OFF = outb(0x600, 0x34);
const RESET = outb(0x602, 1);
const KEYBOARD_RESET = outb(0x64, 0xfe);
/* Loads a bad selector: #GP, and there is no IDT to handle it or what follows. */
const TRIPLE_FAULT = [0xb8, 0xff, 0xff, 0, 0, 0x8e, 0xd8];
const SPIN = [0xeb, 0xfe];

class Transcript implements HostConsole {
	text = "";
	write(bytes: Uint8Array): void {
		this.text += Buffer.from(bytes).toString("latin1");
	}
	close(): void {
		/* nothing was opened */
	}
}

function config(path: string): MachineConfig {
	return {
		kernel: path,
		cpus: 1,
		memoryMiB: 64,
		disks: [],
		nets: [],
		rng: false,
		console: { kind: "none" },
	};
}

async function run(path: string, change: Partial<MachineConfig> = {}) {
	const console = new Transcript();
	const machine = await Machine.create({ ...config(path), ...change }, { console });
	machine.start();
	return { end: await machine.ended, text: console.text };
}

describe("Machine", () => {
	it("runs a kernel that prints and powers off", async () => {
		const { end, text } = await run(kernel("off", "hello from ring 0\n", POWER_OFF));
		expect(text).toBe("hello from ring 0\n");
		expect(end).toEqual({ reason: "power-off" });
		expect(endStatus(end)).toBe(0);
	});

	it("tells a reset by the ACPI register and by the keyboard controller", async () => {
		expect((await run(kernel("reset", "x", RESET))).end).toEqual({ reason: "reset" });
		expect((await run(kernel("kbd", "x", KEYBOARD_RESET))).end).toEqual({ reason: "reset" });
	});

	it("tells a panic from the reset that follows it", async () => {
		const { end } = await run(kernel("panic", "[ 1.0] Kernel panic - not syncing: no init\n", RESET));
		expect(end).toEqual({ reason: "panic", detail: "no init" });
		expect(describeEnd(end)).toBe("guest kernel panic: no init");
		expect(endStatus(end)).toBe(101);
	});

	it("tells a triple fault", async () => {
		const { end } = await run(kernel("fault", "x", TRIPLE_FAULT));
		expect(end).toMatchObject({ reason: "triple-fault" });
		expect(endStatus(end)).toBe(102);
	});

	it("stops a guest that spins, and frees every file descriptor and mapping", async () => {
		const path = kernel("spin", "spinning", SPIN);
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
		/* incl [BASE + 0x800000]; jmp back */
		const count = [0xff, 0x05, 0, 0, 0x80, 0x01, 0xeb, 0xf8];
		const machine = await Machine.create(config(kernel("count", "x", count)));
		const counter = () => machine.memory.u32(BASE + 0x800000);
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
		/* mov dx, 0x60; in al, dx; incl [BASE + 0x800000]; jmp back: an exit per turn that TypeScript answers. */
		const poll = [0x66, 0xba, 0x60, 0x00, 0xec, 0xff, 0x05, 0, 0, 0x80, 0x01, 0xeb, 0xf7];
		const stderr = vi.spyOn(process.stderr, "write").mockReturnValue(true);
		const machine = await Machine.create({ ...config(kernel("poll", "x", poll)), cpus: 4, trace: ["pio"] });
		const counter = () => machine.memory.u32(BASE + 0x800000);
		machine.start();
		for (let i = 0; i < 10; i++) {
			const at = counter();
			await expect.poll(counter, { interval: 2 }).toBeGreaterThan(at + 2);
			const paused = machine.pause();
			expect(machine.pause()).toBe(paused);
			await paused;
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
		const machine = await Machine.create({ ...config(kernel("back", "x", SPIN)), cpus: 2 });
		machine.start();
		const paused = machine.pause();
		machine.resume();
		await paused;
		expect(await machine.stop()).toEqual({ reason: "stopped" });
	});

	it("stops on request while a guest prints without end", async () => {
		const console = new Transcript();
		console.write = () => undefined;
		/* mov dx, 0x3f8; mov esi, BASE; mov ecx, 4096; rep outsb; jmp back */
		const flood = [0x66, 0xba, 0xf8, 0x03, 0xbe, 0, 0, 0, 1, 0xb9, 0, 0x10, 0, 0, 0xf3, 0x6e, 0xeb, 0xee];
		const machine = await Machine.create(config(kernel("flood", "x", flood)), { console });
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
		const machine = await Machine.create(config(kernel("defect", "x", readConfig)), {
			devices: () => [new Defective()],
		});
		machine.start();
		const end = await machine.ended;
		expect(String(stderr.mock.calls[0]![0])).toContain("Error: of the test");
		stderr.mockRestore();
		expect(end).toEqual({ reason: "device-failed", detail: "exit of vCPU 0: of the test" });
		expect([endStatus(end), endError(end)?.code]).toEqual([125, "ERR_DEVICE_FAILED"]);
		expect(closed).toEqual(["defective0"]);
		await expect.poll(() => readdirSync("/proc/self/fd").length).toBe(before);
	});

	it("leaves nothing when a step of create fails", async () => {
		const path = kernel("fine", "x", POWER_OFF);
		const before = readdirSync("/proc/self/fd").length;
		await expect(Machine.create({ ...config(path), initrd: join(folder, "missing") })).rejects.toMatchObject({
			code: "ERR_INITRD_OPEN",
		});
		await expect(
			Machine.create({ ...config(path), rng: true, disks: [{ path: join(folder, "no-disk"), readOnly: false }] }),
		).rejects.toMatchObject({ code: "ERR_DISK_OPEN" });
		expect(readdirSync("/proc/self/fd").length).toBe(before);
	});

	it("runs with more memory than fits below 4 GiB", async () => {
		const { end, text } = await run(kernel("large", "large\n", POWER_OFF), { memoryMiB: 6144 });
		expect([end.reason, text]).toEqual(["power-off", "large\n"]);
	});
});
