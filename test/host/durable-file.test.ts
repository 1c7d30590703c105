import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { publish, writeDurably } from "../../src/host/durable-file.ts";
import { atRisk, events, fault, forget } from "./recorded-disk.ts";

vi.mock("node:fs/promises", async (original) => (await import("./recorded-disk.ts")).recorded(await original()));

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), "tsvmm-"));
	forget();
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("writeDurably", () => {
	test("writeDurably syncs the file, renames it, and syncs the folder", async () => {
		const temporary = join(folder, ".a");
		await writeDurably(join(folder, "a"), "text", temporary);
		expect(events).toEqual([`sync ${temporary}`, `rename ${temporary} ${join(folder, "a")}`, `sync ${folder}`]);
		expect(atRisk()).toEqual([]);
		expect(readFileSync(join(folder, "a"), "utf8")).toBe("text");
	});

	test("writeDurably writes beside the file, under a name with a dot", async () => {
		await writeDurably(join(folder, "a"), "text");
		expect(events[0]).toMatch(new RegExp(`^sync ${folder}/\\.a\\.`));
		expect(readdirSync(folder)).toEqual(["a"]);
	});

	test("writeDurably that cannot sync leaves the older file and nothing else", async () => {
		writeFileSync(join(folder, "a"), "old");
		fault.sync = Object.assign(new Error("EIO"), { code: "EIO" });
		await expect(writeDurably(join(folder, "a"), "new")).rejects.toThrow("EIO");
		expect(readdirSync(folder)).toEqual(["a"]);
		expect(readFileSync(join(folder, "a"), "utf8")).toBe("old");
		expect(events).toEqual([]);
	});
});

describe("publish", () => {
	test("publish syncs every file and folder below before the rename, and the parent after it", async () => {
		const from = join(folder, ".k");
		mkdirSync(join(from, "lib/modules"), { recursive: true });
		for (const name of ["vmlinux", "lib/modules/a.ko", "lib/modules/b.ko"]) writeFileSync(join(from, name), name);
		await publish(from, join(folder, "k"));
		const renamed = events.indexOf(`rename ${from} ${join(folder, "k")}`);
		const before = ["", "/vmlinux", "/lib", "/lib/modules", "/lib/modules/a.ko", "/lib/modules/b.ko"];
		expect(events.slice(0, renamed).sort()).toEqual(before.map((name) => `sync ${from}${name}`).sort());
		expect(events.slice(renamed + 1)).toEqual([`sync ${folder}`]);
		expect(atRisk()).toEqual([]);
	});

	test("publish that cannot sync gives no name", async () => {
		writeFileSync(join(folder, ".a"), "text");
		fault.sync = Object.assign(new Error("EIO"), { code: "EIO" });
		await expect(publish(join(folder, ".a"), join(folder, "a"))).rejects.toThrow("EIO");
		expect(readdirSync(folder)).toEqual([".a"]);
	});
});
