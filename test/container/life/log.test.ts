/*
 * A container's log: what is written comes back, line by line, also after a crash.
 */
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { LogFile } from "../../../src/container/life/log-file.ts";
import { readLogLimits } from "../../../src/container/life/log-limits.ts";
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

/** A line of 100 bytes or so. */
const line = (i: number) => `line ${i} ${".".repeat(20)}\n`;
const limits = { maxBytes: 500, maxFiles: 3 };

test("LogFile begins a new file at its limit, and keeps as many as it may", async () => {
	const log = await LogFile.open(path, limits);
	for (let i = 0; i < 60; i++) await log.write(i % 2 === 0 ? "stdout" : "stderr", Buffer.from(line(i)));
	await log.close();
	expect(readdirSync(directory).sort()).toEqual(["log.json", "log.json.1", "log.json.2"]);
	for (const name of readdirSync(directory)) expect(statSync(join(directory, name)).size).toBeLessThan(700);
	const found = await texts();
	expect(found.length).toBeGreaterThan(10);
	expect(found).toEqual(Array.from({ length: found.length }, (_, i) => line(60 - found.length + i)));
	expect(await texts({ tail: 9 })).toEqual(found.slice(-9));
	expect(await texts({ tail: 0 })).toEqual([]);
	expect(await texts({ tail: 1000 })).toEqual(found);
	const again = await LogFile.open(path, { maxBytes: 500, maxFiles: 1 });
	for (let i = 60; i < 70; i++) await again.write("stdout", Buffer.from(line(i)));
	await again.close();
	expect((await texts()).at(-1)).toBe(line(69));
});

test("readLog follows through files that begin meanwhile", async () => {
	const log = await LogFile.open(path, { maxBytes: 500, maxFiles: 20 });
	await log.write("stdout", Buffer.from(line(0)));
	let goesOn = true;
	const found: string[] = [];
	const reading = (async () => {
		for await (const { log: text } of readLog(path, { goesOn: () => goesOn })) found.push(text);
	})();
	for (let i = 1; i < 60; i++) {
		await log.write("stdout", Buffer.from(line(i)));
		if (i % 7 === 0) await vi.waitFor(() => expect(found.length).toBeGreaterThan(i - 3));
	}
	await log.close();
	goesOn = false;
	await reading;
	expect(found).toEqual(Array.from({ length: 60 }, (_, i) => line(i)));
});

test("readLog is not misled by files that go while it reads", async () => {
	const log = await LogFile.open(path, { maxBytes: 300, maxFiles: 1 });
	let goesOn = true;
	await log.write("stdout", Buffer.from(line(0)));
	const reading = texts({ goesOn: () => goesOn });
	for (let i = 1; i < 40; i++) await log.write("stdout", Buffer.from(line(i)));
	await log.close();
	goesOn = false;
	const found = await reading;
	expect(found.at(-1)).toBe(line(39));
	expect(found.map((text) => Number(/\d+/.exec(text))).every((n, i, all) => i === 0 || n > all[i - 1]!)).toBe(true);
});

test("readLogLimits reads what Docker does", () => {
	expect(readLogLimits({})).toEqual({ maxFiles: 1 });
	expect(readLogLimits({ "max-size": "10m", "max-file": "3" })).toEqual({ maxBytes: 10 * 2 ** 20, maxFiles: 3 });
	expect(readLogLimits({ "max-size": "2kb" })).toEqual({ maxBytes: 2048, maxFiles: 1 });
	expect(readLogLimits({ "max-size": "-1" })).toEqual({ maxFiles: 1 });
	const bad = [{ "max-size": "0" }, { "max-size": "x" }, { "max-file": "3" }, { "max-size": "1m", "max-file": "0" }];
	for (const options of [...bad, { colour: "red" }]) {
		expect(() => readLogLimits(options)).toThrow(expect.objectContaining({ code: "ERR_RUN_LOG_OPT" }));
	}
});

test("readLog of no file is empty", async () => {
	expect(await texts()).toEqual([]);
});
