/*
 * A guest that writes a disk and compares what it reads is saved at random points, with and without a base, and goes on as
 * another machine from the last snapshot or from an earlier one. Random numbers come from a seed; when the guest stands still
 * at each of the points does not. TSVMM_FUZZ_HOPS and TSVMM_FUZZ_SEED make a longer run or repeat one. Needs /dev/kvm.
 */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { RestoreConfig } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import { mergeSnapshot } from "../../src/snapshot/write.ts";
import { Random } from "../driver/random.ts";
import { buildBareGuests } from "./bare-guest.ts";
import { bareKernel } from "./bare-kernel.ts";
import { Transcript } from "./transcript.ts";

const HOPS = Number(process.env.TSVMM_FUZZ_HOPS ?? 12);
const SEED = Number(process.env.TSVMM_FUZZ_SEED ?? Date.now() % 1e6);
/** In guests/bare/verify.c. */
const PARAMETERS = 0x2f0000;
const REQUESTS = 64;
const BYTES = 4096;
const POINT = /^\.*$/;

let directory: string;
beforeAll(() => {
	buildBareGuests();
	directory = mkdtempSync(join(tmpdir(), "tsvmm-fuzz-"));
});
afterAll(() => rmSync(directory, { recursive: true }));
let machine: Machine | undefined;
afterEach(async () => {
	await machine?.stop();
});

/** A snapshot, and the disk as it was then. */
interface Saved {
	readonly path: string;
	readonly disk: string;
}

test.each([
	["interrupts", 1, 0],
	["interrupts and EVENT_IDX", 1, 1],
	["polling", 0, 0],
	["polling with EVENT_IDX", 0, 1],
])("a guest that uses a disk by %s is saved and restored at any point, and loses no byte", async (name, ...mode) => {
	const random = new Random(SEED);
	const place = mkdtempSync(join(directory, "run-"));
	const disk = join(place, "disk");
	writeFileSync(disk, "");
	truncateSync(disk, REQUESTS * BYTES);
	const console = new Transcript();
	const host = (): RestoreConfig => ({ console: { kind: "own", console }, rng: true, disks: [{ path: disk }] });
	machine = await Machine.create({ ...host(), kernel: bareKernel("verify", place), memoryMiB: 64 });
	for (const [i, value] of [...mode, random.pick([1, 4, 16, 64]), REQUESTS, 0].entries())
		machine.memory.setU32(PARAMETERS + 4 * i, value);
	machine.start();
	const saved: Saved[] = [];
	/** Each one after a point, or after a few milliseconds. */
	const runs = async () => {
		const before = console.text.length;
		if (random.chance(40)) await expect.poll(() => console.text.length, { interval: 1 }).toBeGreaterThan(before);
		else await sleep(random.below(12));
		expect(machine!.state, `seed ${SEED}: ${console.text}`).toBe("running");
	};
	for (let hop = 0; hop < HOPS; hop++) {
		await runs();
		const next = { path: join(place, `${hop}`), disk: join(place, `disk-${hop}`) };
		const base = random.chance(70) && saved.length > 0 ? random.pick(saved).path : undefined;
		let isKept = false;
		const onProgress = () => {
			/* Nothing is in flight. */
			if (!isKept) copyFileSync(disk, next.disk);
			isKept = true;
		};
		if (random.chance(50)) await machine.pause();
		await machine.snapshot(next.path, { base, onProgress });
		if (machine.state === "paused" && random.chance(30)) machine.resume();
		saved.push(next);
		if (machine.state === "running" && random.chance(40)) continue;
		await machine.stop();
		const from = random.chance(70) ? next : random.pick(saved);
		copyFileSync(from.disk, disk);
		const merged = join(place, `merged-${hop}`);
		const isMerged = random.chance(20);
		if (isMerged) await mergeSnapshot(from.path, merged);
		machine = await Machine.restore(isMerged ? merged : from.path, host());
		machine.start();
	}
	const before = console.text.length;
	await expect.poll(() => console.text.length).toBeGreaterThan(before);
	machine.memory.setU32(PARAMETERS + 16, 1);
	expect([name, SEED, await machine.ended]).toEqual([name, SEED, { reason: "power-off" }]);
	expect(console.text.slice(-4)).toBe("done");
	expect(console.text.slice(0, -4)).toMatch(POINT);
	/* The last round, whatever its number was, is on the disk as a whole. */
	const bytes = readFileSync(disk);
	const first = bytes.readUInt32LE(0);
	const wrong = Array.from({ length: REQUESTS }, (_, request) => request).filter((request) => {
		const number = (first + Math.imul(request, 2654435761)) >>> 0;
		return Array.from({ length: BYTES / 4 }, (_, i) => bytes.readUInt32LE(request * BYTES + 4 * i)).some(
			(word, i) => word !== (number + i) >>> 0,
		);
	});
	expect(wrong).toEqual([]);
});
