/*
 * A hundred machines of one process: what each takes of its host besides its guest's pages, and that all of it comes back.
 */
import { readdirSync, readFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { Machine } from "../../src/machine/machine.ts";
import { vcpuThreads } from "./threads.ts";
import { COUNTER, TinyKernels } from "./tiny-kernel.ts";

const MACHINES = 100;
const MIB = 1 << 20;

/** incl [COUNTER]; then it halts: a hundred that run would leave the processors no time. */
const ONCE = [0xff, 0x05, 0, 0, 0x80, 0x01];

const kernels = new TinyKernels();
afterAll(() => kernels.remove());

/** Whether a mapping of this process, by its line in smaps, is RAM of a machine. */
function isRam(line: string, machines: readonly Machine[]): boolean {
	const [start, end] = /^([0-9a-f]+)-([0-9a-f]+) /
		.exec(line)!
		.slice(1)
		.map((text) => Number.parseInt(text, 16));
	return machines.some(({ memory }) =>
		memory.windows.some(({ hva, sizeBytes }) => hva < end! && start! < hva + sizeBytes),
	);
}

/** Proportional set size of this process in bytes, without the RAM of machines. */
function ownBytes(machines: readonly Machine[]): number {
	const mappings = readFileSync("/proc/self/smaps", "utf8").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
	const own = mappings.filter((mapping) => !isRam(mapping, machines));
	return own.reduce((sum, mapping) => sum + Number(/^Pss: +(\d+) kB/m.exec(mapping)![1]) * 1024, 0);
}

const descriptors = () => readdirSync("/proc/self/fd").length;

async function start(): Promise<Machine> {
	const machine = await Machine.create({
		kernel: kernels.write("", ONCE),
		...{ memoryMiB: 64, console: { kind: "none" }, rng: true, vsock: {} },
	});
	machine.start();
	return machine;
}

const counted = (machine: Machine) => machine.memory.u32(COUNTER);

/** Starts and stops a hundred machines. @returns what each has taken, in bytes */
async function round(): Promise<number> {
	const before = { descriptors: descriptors(), bytes: ownBytes([]) };
	const machines: Machine[] = [];
	try {
		while (machines.length < MACHINES) machines.push(await start());
		expect(vcpuThreads()).toBe(MACHINES);
		const ran = () => machines.filter((machine) => counted(machine) === 1).length;
		await expect.poll(ran, { timeout: 60_000 }).toBe(MACHINES);
		return (ownBytes(machines) - before.bytes) / MACHINES;
	} finally {
		await Promise.all(machines.map((machine) => machine.stop()));
		await expect.poll(descriptors).toBe(before.descriptors);
		await expect.poll(vcpuThreads).toBe(0);
		/* RAM and KVM's own go on a thread. What is left is room that the collector keeps. */
		await expect.poll(() => ownBytes([]) - before.bytes, { timeout: 30_000 }).toBeLessThan((MACHINES * MIB) / 4);
	}
}

test("each of a hundred machines takes less than 1 MiB besides its guest's pages, and all comes back", async () => {
	/* What the first one loads is for all of them. */
	await (await start()).stop();
	expect(await round()).toBeLessThan(MIB);
	/* Nor does it grow. */
	expect(await round()).toBeLessThan(MIB);
}, 180_000);
