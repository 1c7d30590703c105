/*
 * Snapshots that have only what differs from another one: chains of them, merges, and bases that are not what they were.
 * Needs /dev/kvm.
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { ACPI_ADDRESS, GENERATION_ID_ADDRESS } from "../../src/boot/addresses.ts";
import { Machine } from "../../src/machine/machine.ts";
import { readManifest } from "../../src/snapshot/manifest.ts";
import { mergeSnapshot } from "../../src/snapshot/write.ts";
import { COUNT, COUNTER, TinyKernels } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
const directory = mkdtempSync(join(tmpdir(), "tsvmm-bases-"));
afterAll(() => {
	kernels.remove();
	rmSync(directory, { recursive: true });
});

const MIB = 1 << 20;
const PAGE = 4096;
const counting = (memoryMiB = 64) => Machine.create({ kernel: kernels.write("", COUNT), memoryMiB });
/** Lets the guest write to its counter, and stops it. */
async function runs({ memory }: Machine, step: () => void): Promise<void> {
	const before = memory.u32(COUNTER);
	step();
	await expect.poll(() => memory.u32(COUNTER)).toBeGreaterThan(before);
}
const memoryOf = (path: string) => readFileSync(join(path, "memory"));
/** All but the generation ID, which is each machine's own. */
const contentOf = ({ memory }: Machine) =>
	Buffer.from(memory.bytes(0, 64 * MIB)).fill(0, GENERATION_ID_ADDRESS, ACPI_ADDRESS);
let place: string;
let count = 0;
beforeEach(() => {
	place = join(directory, `${count++}`);
	mkdirSync(place);
});

/** Three snapshots, each based on the one before, of a machine that is then paused. */
async function chain(machine: Machine): Promise<[full: string, second: string, third: string]> {
	const [full, second, third] = [join(place, "full"), join(place, "second"), join(place, "third")];
	const { memory } = machine;
	memory.write(32 * MIB, Buffer.alloc(3 * PAGE, 1));
	memory.write(40 * MIB, Buffer.alloc(PAGE, 1));
	await runs(machine, () => machine.start());
	await machine.snapshot(full);
	/* Written by the guest; by a device; with zeroes; with what was there. */
	await runs(machine, () => undefined);
	memory.write(32 * MIB + PAGE, Buffer.alloc(PAGE, 2));
	memory.write(32 * MIB + 2 * PAGE, Buffer.alloc(PAGE));
	memory.write(40 * MIB, Buffer.alloc(PAGE, 1));
	await machine.snapshot(second, { base: full });
	await machine.pause();
	memory.write(32 * MIB + 2 * PAGE, Buffer.alloc(PAGE, 3));
	memory.write(48 * MIB, Buffer.alloc(PAGE, 3));
	await machine.snapshot(third, { base: second });
	return [full, second, third];
}

describe("a snapshot with a base", () => {
	test("has what differs from it, in a chain of three, and merged it is a full one", async () => {
		await using machine = await counting();
		const [full, second, third] = await chain(machine);
		const whole = join(place, "whole");
		await machine.snapshot(whole);
		const pages = async (path: string) => (await readManifest(path)).memory.usedBytes / PAGE;
		expect(await pages(full)).toBeGreaterThan(6);
		/* The counter and the page of a device; that of zeroes is a hole. */
		expect(await pages(second)).toBe(2);
		expect([2, 3]).toContain(await pages(third));
		expect(readdirSync(third).sort()).toEqual(["memory", "pages", "snapshot.json", "state"]);
		expect((await readManifest(third)).base).toMatchObject({ path: "../second", id: (await readManifest(second)).id });
		for (const [path, name] of [
			[third, "merged"],
			[whole, "again"],
		] as const)
			await mergeSnapshot(path, join(place, name));
		expect(memoryOf(join(place, "merged")).equals(memoryOf(whole))).toBe(true);
		expect(memoryOf(join(place, "again")).equals(memoryOf(whole))).toBe(true);
		expect(readFileSync(join(place, "merged", "state"))).toEqual(readFileSync(join(third, "state")));
		expect((await readManifest(join(place, "merged"))).memory.sha256).toBe((await readManifest(whole)).memory.sha256);
	});

	test("is restored with the pages of all, and so is one of a machine that was restored", async () => {
		let before: Buffer;
		let third: string;
		{
			await using machine = await counting();
			third = (await chain(machine))[2];
			before = contentOf(machine);
		}
		await using one = await Machine.restore(third);
		expect(contentOf(one).equals(before)).toBe(true);
		await runs(one, () => one.start());
		await one.pause();
		one.memory.write(50 * MIB, Buffer.alloc(PAGE, 4));
		one.memory.write(48 * MIB, Buffer.alloc(PAGE));
		/* Based on what it was restored from, and on one further below. */
		const [fourth, aside] = [join(place, "fourth"), join(place, "aside")];
		await one.snapshot(fourth, { base: third });
		await one.snapshot(aside, { base: join(place, "full") });
		/* The counter, the generation ID, and what was written. */
		expect((await readManifest(fourth)).memory.usedBytes).toBe(3 * PAGE);
		const after = contentOf(one);
		expect(after.equals(before)).toBe(false);
		for (const path of [fourth, aside]) {
			await using two = await Machine.restore(path);
			expect(contentOf(two).equals(after)).toBe(true);
			await runs(two, () => two.start());
		}
		/* The files below have not changed. */
		await using again = await Machine.restore(third);
		expect(contentOf(again).equals(before)).toBe(true);
	});

	test("may be based on any snapshot of a machine with as much memory", async () => {
		await using one = await counting();
		await using two = await counting();
		for (const [machine, byte] of [
			[one, 1],
			[two, 2],
		] as const) {
			await machine.pause();
			machine.memory.write((30 + byte) * MIB, Buffer.alloc(PAGE, byte));
		}
		const [base, path] = [join(place, "base"), join(place, "other")];
		await one.snapshot(base);
		await two.snapshot(path, { base });
		await using three = await Machine.restore(path);
		expect(contentOf(three).equals(contentOf(two))).toBe(true);
		await using larger = await counting(65);
		await expect(larger.snapshot(join(place, "larger"), { base })).rejects.toMatchObject({
			code: "ERR_SNAPSHOT_BASE",
			message: expect.stringContaining("is of a machine with 64 MiB of memory"),
		});
		expect(readdirSync(place).sort()).toEqual(["base", "other"]);
		expect(larger.state).toBe("created");
	});

	test("is found where it is with its base, also after both were moved", async () => {
		await using machine = await counting();
		await chain(machine);
		const before = contentOf(machine);
		const moved = `${place}-moved`;
		renameSync(place, moved);
		await using one = await Machine.restore(join(moved, "third"));
		expect(contentOf(one).equals(before)).toBe(true);
	});

	test("takes a merged one as its base, in place of the one that was merged", async () => {
		await using machine = await counting();
		const [full, second, third] = await chain(machine);
		await mergeSnapshot(second, join(place, "short"));
		rmSync(second, { recursive: true });
		rmSync(full, { recursive: true });
		renameSync(join(place, "short"), second);
		await using one = await Machine.restore(third);
		expect(contentOf(one).equals(contentOf(machine))).toBe(true);
		/* The machine does not know it, and what it has is compared. */
		await machine.snapshot(join(place, "fourth"), { base: second });
		await using two = await Machine.restore(join(place, "fourth"));
		expect(contentOf(two).equals(contentOf(machine))).toBe(true);
	});
});

describe("a snapshot is refused", () => {
	const refused = async (path: string, code: string, message: string) => {
		const descriptors = readdirSync("/proc/self/fd").length;
		const error = { code, message: expect.stringContaining(message) };
		await expect(Machine.restore(path)).rejects.toMatchObject(error);
		await expect(mergeSnapshot(path, join(place, "merged"))).rejects.toMatchObject(error);
		await expect.poll(() => readdirSync("/proc/self/fd").length).toBe(descriptors);
		expect(readdirSync(place)).not.toContain("merged");
	};

	test("whose base is gone, another one, or damaged", async () => {
		await using machine = await counting();
		const [full, second, third] = await chain(machine);
		const kept = join(place, "kept");
		renameSync(full, kept);
		await refused(third, "ERR_SNAPSHOT_BASE", "full cannot be read: Cannot read the snapshot");
		await machine.snapshot(full);
		await refused(third, "ERR_SNAPSHOT_BASE", "full is another snapshot");
		await refused(second, "ERR_SNAPSHOT_BASE", "full is another snapshot");
		await expect(machine.snapshot(join(place, "more"), { base: third })).rejects.toMatchObject({
			code: "ERR_SNAPSHOT_BASE",
		});
		rmSync(full, { recursive: true });
		cpSync(kept, full, { recursive: true });
		await using _whole = await Machine.restore(third);
		cpSync(join(third, "memory"), join(full, "memory"));
		await refused(third, "ERR_SNAPSHOT_DAMAGED", "full: memory is not what was written");
	});

	test("whose list of pages is not its own", async () => {
		await using machine = await counting();
		const [, second, third] = await chain(machine);
		cpSync(join(second, "pages"), join(third, "pages"));
		await refused(third, "ERR_SNAPSHOT_DAMAGED", "third: pages is not what was written");
		rmSync(join(third, "pages"));
		await refused(third, "ERR_SNAPSHOT_MISSING", "no such file");
	});
});

test("mergeSnapshot and Machine.snapshot end by their signal, and leave nothing", async () => {
	await using machine = await counting();
	const [, , third] = await chain(machine);
	const stop = new Error("enough");
	for (const work of [
		(options: object) => mergeSnapshot(third, join(place, "merged"), options),
		(options: object) => machine.snapshot(join(place, "more"), options),
		(options: object) => machine.snapshot(join(place, "more"), { ...options, base: third }),
	]) {
		const abort = new AbortController();
		const options = { signal: abort.signal, onProgress: () => abort.abort(stop) };
		await expect(work(options)).rejects.toBe(stop);
		await expect(work({ signal: AbortSignal.abort(stop) })).rejects.toBe(stop);
	}
	expect(readdirSync(place).sort()).toEqual(["full", "second", "third"]);
	await machine.snapshot(join(place, "more"), { base: third });
});
