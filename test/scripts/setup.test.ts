import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run } from "../../src/host/command.ts";

const script = (name: string) => new URL(`../../scripts/${name}`, import.meta.url).href;
const { modulesAreFresh } = (await import(script("setup.mjs"))) as { modulesAreFresh(directory: string): boolean };
const { missingPackages } = (await import(script("packages.mjs"))) as {
	missingPackages(names: string[]): Promise<string[]>;
};
const { formatMs } = (await import(script("steps.mjs"))) as { formatMs(ms: number): string };

let directory: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

function writeLocks(wanted: object, present: object): void {
	mkdirSync(join(directory, "node_modules"));
	writeFileSync(join(directory, "package-lock.json"), JSON.stringify({ packages: wanted }));
	writeFileSync(join(directory, "node_modules/.package-lock.json"), JSON.stringify({ packages: present }));
}

test("modulesAreFresh is false before the first npm ci", () => {
	expect(modulesAreFresh(directory)).toBe(false);
});

test("modulesAreFresh compares versions, and does not miss what is optional", () => {
	const wanted = {
		"": { version: "1" },
		"node_modules/a": { version: "1.0.0" },
		"node_modules/b": { version: "1.0.0", optional: true },
	};
	writeLocks(wanted, { "node_modules/a": { version: "1.0.0" } });
	expect(modulesAreFresh(directory)).toBe(true);
});

test.each([
	["another version", { "node_modules/a": { version: "0.9.0" } }],
	["a missing package", {}],
])("modulesAreFresh notices %s", (_name, present) => {
	writeLocks({ "node_modules/a": { version: "1.0.0" } }, present);
	expect(modulesAreFresh(directory)).toBe(false);
});

test("missingPackages knows installed Debian packages from others", async () => {
	expect(await missingPackages(["dpkg", "tsvmm-no-such-package"])).toEqual(["tsvmm-no-such-package"]);
});

test("formatMs picks the unit", () => {
	expect([formatMs(420), formatMs(125_000)]).toEqual(["0.4 s", "2 min 5 s"]);
});

test("test.mjs names its phases when it is given an unknown one", async () => {
	const path = new URL("../../scripts/test.mjs", import.meta.url).pathname;
	const { status, stderr } = await run(process.execPath, [path, "nonsense"], { accept: [1] });
	expect(status).toBe(1);
	expect(stderr).toBe("test: no such phase: nonsense; known are check, unit, guest, lab\n");
});
