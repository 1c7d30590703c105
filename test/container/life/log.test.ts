/*
 * A container's log: what is written comes back, line by line, also after a crash.
 */
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LogFile } from "../../../src/container/life/log-file.ts";
import { type LogSelection, readLog } from "../../../src/container/life/log-reader.ts";

let directory: string;
let path: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-log-"));
	path = join(directory, "log.json");
});
afterEach(() => rmSync(directory, { recursive: true }));

async function texts(selection: LogSelection = {}): Promise<string[]> {
	const found: string[] = [];
	for await (const { log } of readLog(path, selection)) found.push(log);
	return found;
}

async function write(...chunks: (string | Buffer)[]): Promise<void> {
	const log = await LogFile.open(path);
	for (const chunk of chunks) await log.write("stdout", Buffer.from(chunk as string));
	await log.close();
}

test("LogFile writes Docker's format: a line of JSON for each line, streams and time with it", async () => {
	const log = await LogFile.open(path);
	await log.write("stdout", Buffer.from("one\ntw"));
	await log.write("stderr", Buffer.from("problem\n"));
	await log.write("stdout", Buffer.from("o\nlast"));
	await log.close();
	const entries = readFileSync(path, "utf8")
		.trim()
		.split("\n")
		.map((line) => JSON.parse(line));
	expect(entries.map(({ log, stream }) => [stream, log])).toEqual([
		["stdout", "one\n"],
		["stderr", "problem\n"],
		["stdout", "two\n"],
		["stdout", "last"],
	]);
	for (const { time } of entries) expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
});

test("a character that two chunks share is whole, and a long line is several entries", async () => {
	const [euro] = [Buffer.from("€")];
	await write(euro.subarray(0, 1), euro.subarray(1), "\n", "x".repeat(40_000), "\n");
	const found = await texts();
	expect(found[0]).toBe("€\n");
	expect(found.slice(1).join("")).toBe(`${"x".repeat(40_000)}\n`);
	expect(found.length).toBeGreaterThan(2);
});

test("a line that a crash has torn loses itself alone", async () => {
	await write("one\n");
	appendFileSync(path, '{"log":"torn');
	await write("two\n");
	expect(await texts()).toEqual(["one\n", "two\n"]);
});

test("readLog gives the last lines, however many there are", async () => {
	const lines = Array.from({ length: 5000 }, (_, i) => `line ${i}\n`);
	await write(lines.join(""));
	expect(await texts({ tail: 3 })).toEqual(lines.slice(-3));
	expect(await texts({ tail: 0 })).toEqual([]);
	expect(await texts({ tail: 4999 })).toEqual(lines.slice(1));
	expect(await texts({ tail: 6000 })).toEqual(lines);
});

test("readLog gives what is between two times", async () => {
	for (const day of [1, 2, 3]) {
		appendFileSync(
			path,
			`${JSON.stringify({ log: `${day}\n`, stream: "stdout", time: `2026-01-0${day}T00:00:00Z` })}\n`,
		);
	}
	const sinceMs = Date.parse("2026-01-02T00:00:00Z");
	expect(await texts({ sinceMs })).toEqual(["2\n", "3\n"]);
	expect(await texts({ untilMs: sinceMs })).toEqual(["1\n", "2\n"]);
});

test("readLog follows until nobody writes any more, and reads what was written last", async () => {
	const log = await LogFile.open(path);
	await log.write("stdout", Buffer.from("before\n"));
	let goesOn = true;
	const reading = texts({ goesOn: () => goesOn });
	await log.write("stdout", Buffer.from("after\n"));
	await log.close();
	goesOn = false;
	expect(await reading).toEqual(["before\n", "after\n"]);
});

test("readLog of no file is empty", async () => {
	expect(await texts()).toEqual([]);
});
