/*
 * Working sets as files: what is kept of one, and that nothing that is wrong with one is believed.
 */
import {
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { PageSet } from "../../src/base/page-set.ts";
import { isWorkingSet, pagesIn, readWorkingSet, WORKING_SET, writeWorkingSet } from "../../src/snapshot/working-set.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-working-sets-"));
afterAll(() => rmSync(directory, { recursive: true }));
let path: string;
let count = 0;
beforeEach(() => {
	path = join(directory, `${count++}`);
	mkdirSync(path);
});

const MIB = 1 << 20;
/** What a snapshot says of itself, as far as it matters here: 64 MiB, so 16384 pages. */
const about = (id = "one", bytes = 64 * MIB) => ({ id, memory: { bytes } }) as Parameters<typeof readWorkingSet>[1];
const pages = (total: number, ...runs: [number, number][]) => {
	const set = new PageSet(total);
	for (const [start, end] of runs) set.add(start, end);
	return set;
};
const text = () => readFileSync(join(path, WORKING_SET), "utf8");

describe("a working set", () => {
	test("is read as it was written, with near pages as one run, and is its owner's alone", async () => {
		await writeWorkingSet(path, about(), pages(16384, [3, 4], [18, 20], [36, 40], [16383, 16384]));
		/* Between 4 and 18 are fewer pages than the host maps at once, between 20 and 36 as many. */
		const runs = await readWorkingSet(path, about());
		expect(runs).toEqual([
			[3, 20],
			[36, 40],
			[16383, 16384],
		]);
		expect(pagesIn(runs!)).toBe(22);
		expect(statSync(join(path, WORKING_SET)).mode & 0o777).toBe(0o600);
		expect(readdirSync(path)).toEqual([WORKING_SET]);
	});

	test("may be empty", async () => {
		await writeWorkingSet(path, about(), pages(16384));
		expect(await readWorkingSet(path, about())).toEqual([]);
	});

	test("has the first 256 MiB and 4096 runs of a large one", async () => {
		const total = 1 << 20;
		await writeWorkingSet(path, about(), pages(total, [10, total]));
		expect(await readWorkingSet(path, about("one", 4096 * MIB))).toEqual([[10, 10 + 65536]]);
		const scattered = pages(total, ...Array.from({ length: 5000 }, (_, i): [number, number] => [i * 100, i * 100 + 1]));
		await writeWorkingSet(path, about(), scattered);
		const runs = await readWorkingSet(path, about("one", 4096 * MIB));
		expect(runs).toHaveLength(4096);
		expect(runs!.at(-1)).toEqual([409500, 409501]);
		/* The gaps count, too. */
		const dense = pages(total, ...Array.from({ length: 9000 }, (_, i): [number, number] => [i * 10, i * 10 + 1]));
		await writeWorkingSet(path, about(), dense);
		expect(await readWorkingSet(path, about("one", 4096 * MIB))).toEqual([[0, 65536]]);
	});

	test("of another snapshot or a larger one is none", async () => {
		await writeWorkingSet(path, about(), pages(16384, [0, 16384]));
		expect(await readWorkingSet(path, about())).toEqual([[0, 16384]]);
		expect(await readWorkingSet(path, about("two"))).toBeUndefined();
		expect(await readWorkingSet(path, about("one", 32 * MIB))).toBeUndefined();
	});

	test("that is missing, cut short at any byte or damaged is none", async () => {
		expect(await readWorkingSet(path, about())).toBeUndefined();
		await writeWorkingSet(path, about(), pages(16384, [3, 20], [40, 50]));
		const whole = text();
		for (let length = 0; length < whole.length - 1; length++) {
			writeFileSync(join(path, WORKING_SET), whole.slice(0, length));
			expect(await readWorkingSet(path, about()), `${length} bytes`).toBeUndefined();
		}
		const of = (numbers: unknown, more: object = {}) =>
			JSON.stringify({ version: 1, snapshot: "one", pages: numbers, ...more });
		const wrong = [
			of([3]),
			of([3, 4, 5]),
			of([4, 3]),
			of([3, 3]),
			of([3, 8, 7, 9]),
			of([8, 9, 3, 4]),
			of([-1, 4]),
			of([0, 16385]),
			of([0, 1.5]),
			of([0, 1e300]),
			of([null, 4]),
			of(["0", "1"]),
			of({ length: 2 }),
			of("3,4"),
			of([3, 4], { version: 2 }),
			of([3, 4], { snapshot: 1 }),
			"[]",
			"null",
			"3",
			whole.slice(1),
		];
		for (const content of wrong) {
			writeFileSync(join(path, WORKING_SET), content);
			expect(await readWorkingSet(path, about()), content).toBeUndefined();
		}
		writeFileSync(join(path, WORKING_SET), of([3, 4]));
		expect(await readWorkingSet(path, about())).toEqual([[3, 4]]);
	});

	test("that is too long or no file is none, and is not read", async () => {
		const file = join(path, WORKING_SET);
		writeFileSync(file, JSON.stringify({ version: 1, snapshot: "one", pages: [3, 4] }).padEnd(1 << 19));
		expect(await readWorkingSet(path, about())).toBeUndefined();
		rmSync(file);
		symlinkSync("/dev/zero", file);
		expect(await readWorkingSet(path, about())).toBeUndefined();
		rmSync(file);
		mkdirSync(file);
		expect(await readWorkingSet(path, about())).toBeUndefined();
		/* Nor can one be written there, and nothing is left of the attempt. */
		await expect(writeWorkingSet(path, about(), pages(16384))).rejects.toThrow(/EISDIR|directory/);
		expect(readdirSync(path)).toEqual([WORKING_SET]);
	});

	test("takes the place of another one, also of one that is written at the same time", async () => {
		const sets = Array.from({ length: 20 }, (_, i) => pages(16384, [i * 100, i * 100 + 1]));
		await Promise.all(sets.map((set) => writeWorkingSet(path, about(), set)));
		const runs = await readWorkingSet(path, about());
		expect(sets.map((set) => [...set.runs()])).toContainEqual(runs);
		expect(readdirSync(path)).toEqual([WORKING_SET]);
	});

	test("is known by its name, also when its writer was killed", async () => {
		for (const name of ["working-set", ".working-set.0d9"]) expect(isWorkingSet(name), name).toBe(true);
		for (const name of ["memory", "working-set.old", ".working-set", ".memory.0d9"])
			expect(isWorkingSet(name), name).toBe(false);
	});
});
