/*
 * Attempts at templates: one of several processes makes one, and what has failed is not tried again at once.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { beginAttempt, failAttempt, failedAttempts, forgetAttempt } from "../../../src/container/template/attempts.ts";
import { listTemplates, templatesDirectory } from "../../../src/container/template/store.ts";

const HOUR_MS = 3600_000;
const before = process.env.TSVMM_CACHE;
let cache: string;
let path: string;

beforeEach(() => {
	cache = mkdtempSync(join(tmpdir(), "tsvmm-cache-"));
	process.env.TSVMM_CACHE = cache;
	path = join(templatesDirectory(), "0123456789abcdef0123");
});
afterEach(() => {
	if (before === undefined) delete process.env.TSVMM_CACHE;
	else process.env.TSVMM_CACHE = before;
	rmSync(cache, { recursive: true });
});

test("beginAttempt is true for one of several", async () => {
	const begun = await Promise.all(Array.from({ length: 8 }, () => beginAttempt(path)));
	expect(begun.filter(Boolean)).toHaveLength(1);
	expect(await beginAttempt(`${path}2`)).toBe(true);
});

test("beginAttempt is true again after an hour without a word, and a day after a failure", async () => {
	expect(await beginAttempt(path)).toBe(true);
	expect(await beginAttempt(path, Date.now() + 0.9 * HOUR_MS)).toBe(false);
	expect(await beginAttempt(path, Date.now() + 1.1 * HOUR_MS)).toBe(true);
	failAttempt(path, "the guest has ended");
	expect(await beginAttempt(path, Date.now() + 23 * HOUR_MS)).toBe(false);
	expect(await beginAttempt(path, Date.now() + 25 * HOUR_MS)).toBe(true);
});

test("forgetAttempt lets the next one begin at once", async () => {
	expect(await beginAttempt(path)).toBe(true);
	forgetAttempt(path);
	expect(await beginAttempt(path)).toBe(true);
});

test("failedAttempts names what has failed and why; an attempt is no template", async () => {
	expect(failedAttempts()).toEqual([]);
	await beginAttempt(path);
	expect(failedAttempts()).toEqual([]);
	failAttempt(path, "the guest has ended");
	expect(failedAttempts()).toEqual([{ key: "0123456789abcdef0123", reason: "the guest has ended" }]);
	expect(await listTemplates()).toEqual([]);
});
