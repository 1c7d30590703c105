import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { markUsed, removeUnused } from "../../src/host/unused.ts";

const DAY_MS = 24 * 3600_000;
const NOW_MS = 1_700_000_000_000;

let directory: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

function make(name: string, ageDays: number): string {
	const path = join(directory, name);
	writeFileSync(path, "");
	const seconds = (NOW_MS - ageDays * DAY_MS) / 1000;
	utimesSync(path, seconds, seconds);
	return path;
}

test("removeUnused takes what is older than 30 days and may go", async () => {
	make("new", 1);
	make("last-month", 29);
	make("old", 31);
	make("current", 31);
	make(".lock", 31);
	mkdirSync(join(directory, "old-directory"));
	writeFileSync(join(directory, "old-directory/file"), "");
	utimesSync(join(directory, "old-directory"), 1e9, 1e9);
	await removeUnused(directory, (name) => name !== "current", NOW_MS);
	expect(readdirSync(directory).sort()).toEqual([".lock", "current", "last-month", "new"]);
});

test("markUsed keeps what is used, and writes at most once a day", async () => {
	const old = make("old", 31);
	const young = make("young", 0.5);
	const before = statSync(young).mtimeMs;
	await markUsed(old, NOW_MS);
	await markUsed(young, NOW_MS);
	expect(statSync(old).mtimeMs).toBe(NOW_MS);
	expect(statSync(young).mtimeMs).toBe(before);
	await removeUnused(directory, () => true, NOW_MS);
	expect(readdirSync(directory).sort()).toEqual(["old", "young"]);
});
