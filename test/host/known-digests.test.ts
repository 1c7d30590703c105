/*
 * Digests of files that are not read again while they are the same.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { knownDigests } from "../../src/host/known-digests.ts";

let directory: string;
let file: string;
let store: string;
beforeEach(() => {
	directory = mkdtempSync(`${tmpdir()}/tsvmm-test-`);
	file = `${directory}/program`;
	store = `${directory}/digests.json`;
	writeFileSync(file, "one");
});
afterEach(() => {
	vi.useRealTimers();
	rmSync(directory, { recursive: true });
});

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
/** So long after the file was written that a later change has another time. */
function later(): void {
	vi.useFakeTimers({ now: Date.now() + 10_000, toFake: ["Date"] });
}
/** Puts another digest in the place of each that is written down, to see which are taken from there. */
function forge(): void {
	writeFileSync(store, readFileSync(store, "utf8").replaceAll(/[0-9a-f]{64}/g, "f".repeat(64)));
}

test("knownDigests reads a file once", async () => {
	later();
	expect(await knownDigests([file], store)).toEqual([sha256("one")]);
	forge();
	expect(await knownDigests([file], store)).toEqual(["f".repeat(64)]);
});

test("knownDigests reads a file again that has changed, also to the same size and time of change", async () => {
	later();
	const { mtime } = statSync(file);
	await knownDigests([file], store);
	forge();
	await sleep(20); /* a tick of the file system's clock */
	writeFileSync(file, "two");
	utimesSync(file, mtime, mtime);
	expect(await knownDigests([file], store)).toEqual([sha256("two")]);
});

test("knownDigests does not trust a file that has changed just now", async () => {
	expect(await knownDigests([file], store)).toEqual([sha256("one")]);
	expect(() => readFileSync(store)).toThrow(/ENOENT/);
});

test.each(["", "{", "[]", '{"a":1}', "null", '"text"'])("knownDigests ignores a store with %j", async (text) => {
	later();
	writeFileSync(store, text);
	expect(await knownDigests([file], store)).toEqual([sha256("one")]);
});

test("knownDigests needs no store that can be written, and keeps sixteen", async () => {
	later();
	expect(await knownDigests([file], `${directory}/none/digests.json`)).toEqual([sha256("one")]);
	for (let i = 0; i < 20; i++) {
		writeFileSync(`${directory}/${i}`, `${i}`);
		await knownDigests([`${directory}/${i}`], store);
	}
	expect(Object.keys(JSON.parse(readFileSync(store, "utf8")) as object)).toHaveLength(16);
});

test("knownDigests tells of a file that is not there", async () => {
	await expect(knownDigests([`${directory}/none`], store)).rejects.toThrow(/ENOENT/);
});
