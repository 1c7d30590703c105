/*
 * Machine as a library's user sees it: events, devices by id, parts of one's own, signals, logs, two at a time. Needs
 * /dev/kvm.
 */
import { readdirSync } from "node:fs";
import { afterAll, expect, test, vi } from "vitest";
import type { ConsoleBackend } from "../../src/backends/contract.ts";
import { Machine, type MachineConfig, MemoryDisk } from "../../src/index.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { RngDevice } from "../../src/virtio/rng.ts";
import { COUNT, COUNTER, POWER_OFF, RESET, SPIN, TinyKernels } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
afterAll(() => kernels.remove());

const descriptors = () => readdirSync("/proc/self/fd").length;
const spinning = (change: Partial<MachineConfig> = {}) =>
	Machine.create({ kernel: kernels.write("x", SPIN), memoryMiB: 64, ...change });

class Closes extends RngDevice {
	closed = 0;
	override async close(): Promise<void> {
		this.closed++;
	}
}

test("Machine.create needs a kernel and nothing else", async () => {
	const machine = await Machine.create({ kernel: kernels.write("x", POWER_OFF) });
	expect(machine.memory.windows.reduce((sum, { end, gpa }) => sum + end - gpa, 0)).toBe(256 << 20);
	expect(machine.deviceIds).toEqual([]);
	machine.start();
	expect(await machine.ended).toEqual({ reason: "power-off" });
});

test("await using stops the machine", async () => {
	let ended: Machine["ended"];
	{
		await using machine = await spinning();
		machine.start();
		ended = machine.ended;
	}
	expect(await ended).toEqual({ reason: "stopped" });
});

test("Machine.on tells what happens, in order and once", async () => {
	const machine = await spinning({ cpus: 2 });
	const told: unknown[] = [];
	for (const event of ["started", "paused", "resumed", "panic"] as const) machine.on(event, () => told.push(event));
	machine.once("ended", (end) => told.push(end));
	const unheard = () => told.push("unheard");
	machine.on("started", unheard).off("started", unheard);
	machine.start();
	await Promise.all([machine.pause(), machine.pause()]);
	machine.resume();
	machine.resume();
	await machine.stop();
	expect(told).toEqual(["started", "paused", "resumed", { reason: "stopped" }]);
});

test("Machine tells of a panic with the kernel's own words, escaped for a terminal", async () => {
	const text = "Kernel panic - not syncing: no \x1b]0;init\x07\n";
	const machine = await Machine.create({ kernel: kernels.write(text, RESET), memoryMiB: 64 });
	const why: unknown[] = [];
	machine.on("panic", (detail) => why.push(detail));
	machine.start();
	const detail = "no \\x1b]0;init\\x07";
	expect([await machine.ended, why]).toEqual([{ reason: "panic", detail }, [detail]]);
});

test("Machine ends in order when a listener throws", async () => {
	const lines: string[] = [];
	const machine = await spinning({ log: { prefix: "vm7", write: (line) => lines.push(line) } });
	machine.on("started", () => {
		throw new Error("of the test");
	});
	machine.start();
	expect(await machine.ended).toEqual({
		reason: "device-failed",
		detail: 'listener of "started": of the test',
	});
	expect(lines[0]).toContain('tsvmm: error: vm7: listener of "started": Error: of the test');
});

test("Machine.device finds devices by id and kind", async () => {
	await using machine = await spinning({
		disks: [{ backend: new MemoryDisk(4096) }, { backend: new MemoryDisk(512), id: "data" }],
		rng: true,
		devices: [new RngDevice("lava")],
	});
	expect(machine.deviceIds).toEqual(["disk0", "data", "rng", "lava"]);
	expect(machine.device("data", BlockDevice).name).toBe("virtio-blk1");
	expect(machine.device("lava").name).toBe("lava");
	const code = "ERR_DEVICE_ID";
	expect(() => machine.device("disk1")).toThrow(expect.objectContaining({ code }));
	expect(() => machine.device("disk1")).toThrow("the machine has disk0, data, rng, lava");
	expect(() => machine.device("rng", BlockDevice)).toThrow(expect.objectContaining({ code }));
});

test("Machine.device leads to a disk whose backend can be replaced, closed with the machine", async () => {
	const disks = [new MemoryDisk(512), new MemoryDisk(1024)];
	const closed: number[] = [];
	for (const [i, disk] of disks.entries()) disk.close = async () => void closed.push(i);
	const machine = await spinning({ disks: [{ backend: disks[0]! }] });
	machine.start();
	const disk = machine.device("disk0", BlockDevice);
	await disk.replaceBackend(disks[1]!);
	expect([closed, disk.backend]).toEqual([[0], disks[1]]);
	await machine.stop();
	expect(closed).toContain(1);
});

test("Machine.create closes what it was given once, whether it fails early, late or not at all", async () => {
	const given = () => {
		const calls = { device: new Closes("own"), disk: new MemoryDisk(512), diskClosed: 0, consoleClosed: 0 };
		calls.disk.close = async () => void calls.diskClosed++;
		const console: ConsoleBackend = { write: () => true, close: async () => void calls.consoleClosed++ };
		return {
			calls,
			disks: [{ backend: calls.disk }],
			devices: [calls.device],
			console: { kind: "own", console } as const,
		};
	};
	const closed = ({ calls }: ReturnType<typeof given>) => [calls.device.closed, calls.consoleClosed];
	const before = descriptors();
	const early = given();
	await expect(spinning({ ...early, cpus: 0 })).rejects.toMatchObject({ code: "ERR_CONFIG_CPUS" });
	expect([closed(early), early.calls.diskClosed]).toEqual([[1, 1], 1]);
	const late = given();
	await expect(spinning({ ...late, initrd: "/missing" })).rejects.toMatchObject({ code: "ERR_INITRD_OPEN" });
	expect(closed(late)).toEqual([1, 1]);
	expect(late.calls.diskClosed).toBeGreaterThan(0);
	const fine = given();
	await (await spinning(fine)).stop();
	expect(closed(fine)).toEqual([1, 1]);
	expect(fine.calls.diskClosed).toBeGreaterThan(0);
	await expect.poll(descriptors).toBe(before);
});

test("Machine.create fails with the reason of a signal that is aborted, and leaves nothing", async () => {
	const before = descriptors();
	const reason = new Error("no time");
	await expect(spinning({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
	const abort = new AbortController();
	const creating = spinning({ vsock: {}, signal: abort.signal });
	abort.abort();
	await expect(creating).rejects.toMatchObject({ name: "AbortError" });
	await expect.poll(descriptors).toBe(before);
});

test("Machine stops when its signal is aborted", async () => {
	const abort = new AbortController();
	const machine = await spinning({ signal: abort.signal });
	machine.start();
	abort.abort();
	expect(await machine.ended).toEqual({ reason: "stopped" });
});

test("Machine shares nothing with another in the same process", async () => {
	const lines: [string[], string[]] = [[], []];
	const closes = new Closes("own");
	const make = (i: 0 | 1, devices: RngDevice[]) =>
		Machine.create({
			kernel: kernels.write("x", COUNT),
			memoryMiB: 64,
			devices,
			log: { level: "warn", write: (line) => lines[i].push(line) },
		});
	await using one = await make(0, [closes]);
	await using two = await make(1, []);
	const stderr = vi.spyOn(process.stderr, "write").mockReturnValue(true);
	one.on("paused", () => {
		throw new Error("of one");
	});
	one.start();
	two.start();
	const counter = (machine: Machine) => machine.memory.u32(COUNTER);
	await expect.poll(() => counter(two)).toBeGreaterThan(10);
	await two.pause();
	const at = counter(two);
	const before = counter(one);
	await expect.poll(() => counter(one)).toBeGreaterThan(before);
	expect(counter(two)).toBe(at);
	await one.pause();
	expect((await one.ended).reason).toBe("device-failed");
	expect([two.state, closes.closed]).toEqual(["paused", 1]);
	two.resume();
	await expect.poll(() => counter(two)).toBeGreaterThan(at);
	expect(await two.stop()).toEqual({ reason: "stopped" });
	expect([lines[0].length, lines[1].length, stderr.mock.calls.length]).toEqual([1, 0, 0]);
	stderr.mockRestore();
});
