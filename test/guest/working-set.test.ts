/*
 * Working sets: the first machine that goes on from a snapshot leaves one, and the next ones have it read before their vCPU
 * runs. Needs /dev/kvm.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { GuestRam } from "../../src/host/ram.ts";
import { Machine } from "../../src/machine/machine.ts";
import { removeSnapshot } from "../../src/snapshot/directory.ts";
import { readManifest } from "../../src/snapshot/manifest.ts";
import { dataOf } from "../../src/snapshot/memory-file.ts";
import { readWorkingSet, WORKING_SET } from "../../src/snapshot/working-set.ts";
import { mergeSnapshot } from "../../src/snapshot/write.ts";
import { TinyKernels } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
const directory = mkdtempSync(join(tmpdir(), "tsvmm-working-"));
afterAll(() => {
	kernels.remove();
	rmSync(directory, { recursive: true });
});
afterEach(() => {
	vi.restoreAllMocks();
	vi.useRealTimers();
	for (const path of [full, untouched, untouchedBased]) forget(path);
});

const MIB = 1 << 20;
const PAGE = 4096;
/** Read, written and left alone by the guest, where the snapshot has data; and written where it has zeroes. */
const [READ, WRITTEN, IDLE, FRESH] = [32 * MIB, 40 * MIB, 36 * MIB, 50 * MIB];
const u32 = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24];
/** mov eax, [READ]; incl [WRITTEN]; incl [FRESH]; jmp back */
const TOUCH = [0xa1, ...u32(READ), 0xff, 0x05, ...u32(WRITTEN), 0xff, 0x05, ...u32(FRESH), 0xeb, 0xed];

const full = join(directory, "full");
const based = join(directory, "based");
/** As those, and nobody has read them. */
const [untouched, untouchedBased] = [join(directory, "untouched"), join(directory, "untouched-based")];
beforeAll(async () => {
	await using machine = await Machine.create({ kernel: kernels.write("", TOUCH), memoryMiB: 64 });
	for (const gpa of [READ, WRITTEN, IDLE]) machine.memory.write(gpa, Buffer.alloc(PAGE, 1));
	machine.start();
	await goesOn(machine);
	await machine.pause();
	machine.memory.write(FRESH, Buffer.alloc(PAGE));
	await machine.snapshot(full);
	await machine.snapshot(untouched);
	machine.memory.write(READ, Buffer.alloc(PAGE, 2));
	await machine.snapshot(based, { base: full });
	await machine.snapshot(untouchedBased, { base: untouched });
});

async function goesOn({ memory }: Machine): Promise<void> {
	const before = memory.u32(WRITTEN);
	while (memory.u32(WRITTEN) === before) await new Promise(setImmediate);
}

const runsOf = async (path: string) => readWorkingSet(path, await readManifest(path));
/** Which of the guest's addresses are in a working set. */
async function kept(path: string, gpas = [READ, WRITTEN, IDLE]): Promise<number[] | undefined> {
	const runs = await runsOf(path);
	return runs && gpas.filter((gpa) => runs.some(([a, b]) => a <= gpa / PAGE && gpa / PAGE < b));
}

/** Whether this process has mapped the pages of a machine that begin at `gpas`, by the kernel's own word. */
async function mapped(ram: GuestRam, gpas: number[]): Promise<boolean[]> {
	await using pagemap = await open("/proc/self/pagemap");
	const word = Buffer.alloc(8);
	const found: boolean[] = [];
	for (const gpa of gpas) {
		await pagemap.read(word, 0, 8, ((ram.regions[0]!.hva + gpa) / PAGE) * 8);
		found.push((word.readBigUInt64LE() & (1n << 63n)) !== 0n);
	}
	return found;
}

/** Restores a machine. @returns its RAM, too */
async function restored(path: string): Promise<{ machine: Machine; ram: GuestRam }> {
	const map = vi.spyOn(GuestRam, "map");
	const machine = await Machine.restore(path);
	const ram = map.mock.results.at(-1)!.value as GuestRam;
	map.mockRestore();
	return { machine, ram };
}

/** A first machine runs and leaves its working set. */
async function record(path: string): Promise<void> {
	await using machine = await Machine.restore(path);
	machine.start();
	await goesOn(machine);
	machine.workingSet!.record();
	await machine.stop();
}

const forget = (path: string) => rmSync(join(path, WORKING_SET), { force: true });

describe("the first machine of a snapshot", () => {
	test("leaves the pages that its guest has read or written, without those that the snapshot has not", async () => {
		await record(full);
		/* Zeroes need no read, where the file system tells of holes. */
		await using memory = await open(join(full, "memory"));
		const isData = [...dataOf(memory.fd)].some(([start, end]) => start <= FRESH && FRESH < end);
		expect(await kept(full, [FRESH])).toEqual(isData ? [FRESH] : []);
		expect(await kept(full)).toEqual([READ, WRITTEN]);
		expect(readdirSync(full).sort()).toEqual(["memory", "snapshot.json", "state", WORKING_SET]);
		/* The kernel's code, and no more than the host maps around a page. */
		const runs = (await runsOf(full))!;
		expect(runs.some(([start]) => start <= 0x1000)).toBe(true);
		for (const [start, end] of runs) expect(end - start).toBeLessThan(64);
	});

	test("does so by itself some seconds after its start, once", async () => {
		vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
		await using machine = await Machine.restore(full);
		machine.start();
		await goesOn(machine);
		await vi.advanceTimersByTimeAsync(4999);
		expect(await runsOf(full)).toBeUndefined();
		await vi.advanceTimersByTimeAsync(1);
		await expect.poll(() => kept(full)).toEqual([READ, WRITTEN]);
		forget(full);
		machine.workingSet!.record();
		await machine.stop();
		expect(await runsOf(full)).toBeUndefined();
	});

	test("leaves none when it ends before, stands still, was saved, or somebody debugs it", async () => {
		vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
		const spoilt: [string, (machine: Machine) => unknown][] = [
			["ended", (machine) => machine.stop()],
			["paused", (machine) => machine.pause()],
			["saved", (machine) => machine.snapshot(join(directory, "again"))],
			["debugged", (machine) => machine.debug.port],
			["told later", (machine) => machine.workingSet!.awaitRecord()],
		];
		for (const [name, spoil] of spoilt) {
			await using machine = await Machine.restore(full);
			if (name === "told later") await spoil(machine);
			machine.start();
			await goesOn(machine);
			if (name !== "told later") await spoil(machine);
			await vi.advanceTimersByTimeAsync(10_000);
			await machine.stop();
			expect(await runsOf(full), name).toBeUndefined();
		}
	});

	test("writes none into a directory of another user", async () => {
		vi.spyOn(process, "geteuid").mockReturnValue(process.geteuid!() + 1);
		await record(full);
		expect(readdirSync(full)).not.toContain(WORKING_SET);
	});

	test("may be several: each leaves a whole one", async () => {
		await Promise.all([record(full), record(full), record(full)]);
		expect(await kept(full)).toEqual([READ, WRITTEN]);
		expect(readdirSync(full)).toHaveLength(4);
	});
});

describe("the next machines", () => {
	test("are asked for those pages before their vCPU runs", async () => {
		await record(full);
		const runs = await runsOf(full);
		const prefetch = vi.spyOn(GuestRam.prototype, "prefetch");
		await using machine = await Machine.restore(full);
		expect(prefetch.mock.calls).toEqual([[runs]]);
		expect(machine.state).toBe("created");
		expect(machine.workingSet).toBeUndefined();
		machine.start();
		await goesOn(machine);
		expect(machine.memory.u32(IDLE)).toBe(0x0101_0101);
		await machine.stop();
		forget(full);
		/* Without a working set it is not called. */
		await using other = await Machine.restore(full);
		expect(prefetch).toHaveBeenCalledOnce();
		await other.stop();
	});

	test("have those pages that the page cache had not before their vCPU runs, and no others", async () => {
		/* Holes of the file that nobody has read are in no page cache, whatever the file system. */
		for (const [path, hole] of [
			[untouched, 56 * MIB],
			[untouchedBased, 24 * MIB],
		] as const) {
			const first = hole / PAGE;
			const { id } = await readManifest(path);
			writeFileSync(join(path, WORKING_SET), JSON.stringify({ version: 1, snapshot: id, pages: [first, first + 300] }));
			const { machine, ram } = await restored(path);
			await expect.poll(() => mapped(ram, [hole, hole + 299 * PAGE])).toEqual([true, true]);
			expect(await mapped(ram, [READ, WRITTEN, IDLE])).toEqual([false, false, false]);
			expect(machine.state).toBe("created");
			machine.start();
			await goesOn(machine);
			await machine.stop();
		}
	});

	test("of one with a base have pages of the base, too; merged, it has none", async () => {
		await record(based);
		expect(await kept(based)).toEqual([READ, WRITTEN]);
		await using machine = await Machine.restore(based);
		expect([READ, IDLE].map((gpa) => machine.memory.u8(gpa))).toEqual([2, 1]);
		const merged = join(directory, "merged");
		await mergeSnapshot(based, merged);
		expect(readdirSync(merged)).not.toContain(WORKING_SET);
	});

	test("go on without one that is damaged, and replace it", async () => {
		for (const damage of ["", "{", readFileSync(join(based, WORKING_SET), "utf8")]) {
			writeFileSync(join(full, WORKING_SET), damage);
			await record(full);
			expect(await kept(full)).toEqual([READ, WRITTEN]);
		}
	});

	test("end at once while it is read", async () => {
		const text = JSON.stringify({ version: 1, snapshot: (await readManifest(full)).id, pages: [0, 16384] });
		writeFileSync(join(full, WORKING_SET), text);
		for (let i = 0; i < 10; i++) {
			const machine = await Machine.restore(full);
			if (i % 2 === 1) machine.start();
			expect(await machine.stop()).toEqual({ reason: "stopped" });
		}
	});
});

test("a snapshot is removed with its working set, and what a writer has left that was killed", async () => {
	writeFileSync(join(based, ".working-set.1"), "");
	expect(readdirSync(based)).toContain(WORKING_SET);
	await removeSnapshot(based);
	expect(existsSync(based)).toBe(false);
});
