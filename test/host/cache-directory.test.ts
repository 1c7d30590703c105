import {
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	truncateSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { isWhole, obtainDirectory } from "../../src/host/cache-directory.ts";
import { FileLock } from "../../src/host/file-lock.ts";
import { atRisk, forget } from "./recorded-disk.ts";

vi.mock("node:fs/promises", async (original) => (await import("./recorded-disk.ts")).recorded(await original()));

let cache: string;
let directory: string;
let fills: number;
beforeEach(() => {
	cache = mkdtempSync(join(tmpdir(), "tsvmm-"));
	directory = join(cache, "k");
	fills = 0;
	forget();
});
afterEach(() => rmSync(cache, { recursive: true }));

async function fill(partial: string): Promise<void> {
	fills++;
	mkdirSync(join(partial, "modules"));
	writeFileSync(join(partial, "vmlinux"), "vmlinux");
	writeFileSync(join(partial, "modules/a.ko"), "module");
	await Promise.resolve();
}

describe("obtainDirectory", () => {
	test("obtainDirectory makes a directory once for all who ask at the same time", async () => {
		const made = await Promise.all([obtainDirectory(directory, fill), obtainDirectory(directory, fill)]);
		expect(made.sort()).toEqual([false, true]);
		expect(fills).toBe(1);
		expect(readdirSync(directory).sort()).toEqual(["files.json", "modules", "vmlinux"]);
		expect(await obtainDirectory(directory, fill)).toBe(false);
	});

	test("obtainDirectory leaves nothing that a power cut could take away or empty", async () => {
		await obtainDirectory(directory, fill);
		expect(atRisk()).toEqual([]);
	});

	test.each([
		["cut to nothing", () => truncateSync(join(directory, "vmlinux"), 0)],
		["cut short", () => truncateSync(join(directory, "modules/a.ko"), 3)],
		["missing", () => rmSync(join(directory, "modules/a.ko"))],
		["without its list of files", () => rmSync(join(directory, "files.json"))],
		["with an empty list of files", () => truncateSync(join(directory, "files.json"), 0)],
		["with a list of files that is none", () => writeFileSync(join(directory, "files.json"), '{"vmlinux": "7"}')],
	])("obtainDirectory makes a directory anew that is %s", async (_what, damage) => {
		await obtainDirectory(directory, fill);
		damage();
		expect(await isWhole(directory)).toBe(false);
		expect(await obtainDirectory(directory, fill)).toBe(true);
		expect(fills).toBe(2);
		expect(readFileSync(join(directory, "vmlinux"), "utf8")).toBe("vmlinux");
		expect(await isWhole(directory)).toBe(true);
	});

	test("obtainDirectory leaves nothing when its directory cannot be made", async () => {
		const failing = obtainDirectory(directory, async (partial) => {
			await fill(partial);
			throw new Error("disk is full");
		});
		await expect(failing).rejects.toThrow("disk is full");
		expect(readdirSync(cache)).toEqual([".k.lock"]);
	});

	test("obtainDirectory takes nothing of what a killed one has left under its name", async () => {
		mkdirSync(join(cache, ".k"));
		writeFileSync(join(cache, ".k/vmlinux"), "vml");
		writeFileSync(join(cache, ".k/old"), "old");
		await obtainDirectory(directory, fill);
		expect(readdirSync(directory).sort()).toEqual(["files.json", "modules", "vmlinux"]);
		expect(readdirSync(cache).sort()).toEqual([".k.lock", "k"]);
	});

	test("obtainDirectory removes what killed ones have left under other names, but not what a living one makes", async () => {
		for (const name of [".dead", ".living", ".older", ".young"]) mkdirSync(join(cache, name));
		writeFileSync(join(cache, ".dead.lock"), "");
		utimesSync(join(cache, ".older"), 1e9, 1e9);
		const living = await FileLock.open(join(cache, ".living.lock"));
		try {
			await living.take("exclusive");
			await obtainDirectory(directory, fill);
			expect(["dead", "living", "older", "young"].filter((name) => existsSync(join(cache, `.${name}`)))).toEqual([
				"living",
				"young",
			]);
		} finally {
			await living.close();
		}
	});
});
