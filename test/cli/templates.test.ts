/*
 * Templates in `tsvmm system` and `tsvmm doctor`, with files alone: none of them is a machine.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { checkTemplates } from "../../src/cli/doctor-checks.ts";
import { beginAttempt, failAttempt } from "../../src/container/template/attempts.ts";
import { listTemplates, templatesDirectory } from "../../src/container/template/store.ts";
import { GOLDEN } from "../snapshot/golden.ts";
import { system } from "./system-output.ts";

const before = process.env.TSVMM_CACHE;
let cache: string;

beforeEach(() => {
	cache = mkdtempSync(join(tmpdir(), "tsvmm-cache-"));
	process.env.TSVMM_CACHE = cache;
});
afterEach(() => {
	if (before === undefined) delete process.env.TSVMM_CACHE;
	else process.env.TSVMM_CACHE = before;
	rmSync(cache, { recursive: true });
});

function addTemplate(key: string, version?: string): void {
	const path = join(templatesDirectory(), key);
	mkdirSync(path, { recursive: true });
	cpSync(join(GOLDEN, "format-1/snapshot.json"), join(path, "snapshot.json"));
	if (version === undefined) return;
	const manifest = JSON.parse(readFileSync(join(path, "snapshot.json"), "utf8")) as object;
	writeFileSync(join(path, "snapshot.json"), JSON.stringify({ ...manifest, tsvmm: version }));
}

const keys = async () => (await listTemplates()).map(({ key }) => key);

test("system df counts templates, and system prune removes those that no machine is made of any more", async () => {
	addTemplate("new");
	addTemplate("old", "0.0.1");
	expect(await system("df")).toMatch(/\nTemplates +2 +1 +[\d.]+kB +[\d.]+kB \(50%\)\n$/);
	expect(await system("df", "-v")).toMatch(/\nTemplates space usage:\n\nKEY +MADE BY +CPUS +MEMORY +SIZE +CREATED\n/);
	expect(await system("prune", "-f")).toMatch(/^Deleted Templates:\nold\n\nTotal reclaimed space: [\d.]+kB\n$/);
	expect(await keys()).toEqual(["new"]);
	expect(await system("prune", "-f", "-a")).toMatch(/^Deleted Templates:\nnew\n\n/);
	expect(await keys()).toEqual([]);
});

test("checkTemplates counts them, and tells why one could not be made", async () => {
	expect(await checkTemplates()).toMatchObject({ status: "ok", found: "none yet; run makes them" });
	addTemplate("new");
	expect(await checkTemplates()).toMatchObject({ status: "ok", found: expect.stringMatching(/^1, [\d.]+kB$/) });
	const path = join(templatesDirectory(), "other");
	await beginAttempt(path);
	failAttempt(path, "the guest has ended");
	expect(await checkTemplates()).toMatchObject({
		status: "note",
		found: expect.stringMatching(/^1, [\d.]+kB; other: the guest has ended$/),
		remedy: expect.stringMatching(/^Run: tsvmm template make/),
	});
});
