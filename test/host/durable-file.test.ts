import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { publish, writeDurably } from "../../src/host/durable-file.ts";
import { atRisk, events, fault, forget } from "./recorded-disk.ts";

vi.mock("node:fs/promises", async (original) => (await import("./recorded-disk.ts")).recorded(await original()));

let directory: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
	forget();
});
afterEach(() => rmSync(directory, { recursive: true }));

describe("writeDurably", () => {
	test("writeDurably syncs the file, renames it, and syncs the directory", async () => {
		const temporary = join(directory, ".a");
		await writeDurably(join(directory, "a"), "text", temporary);
		expect(events).toEqual([`sync ${temporary}`, `rename ${temporary} ${join(directory, "a")}`, `sync ${directory}`]);
		expect(atRisk()).toEqual([]);
		expect(readFileSync(join(directory, "a"), "utf8")).toBe("text");
	});

	test("writeDurably writes beside the file, under a name with a dot", async () => {
		await writeDurably(join(directory, "a"), "text");
		expect(events[0]).toMatch(new RegExp(`^sync ${directory}/\\.a\\.`));
		expect(readdirSync(directory)).toEqual(["a"]);
	});

	test("writeDurably that cannot sync leaves the older file and nothing else", async () => {
		writeFileSync(join(directory, "a"), "old");
		fault.sync = Object.assign(new Error("EIO"), { code: "EIO" });
		await expect(writeDurably(join(directory, "a"), "new")).rejects.toThrow("EIO");
		expect(readdirSync(directory)).toEqual(["a"]);
		expect(readFileSync(join(directory, "a"), "utf8")).toBe("old");
		expect(events).toEqual([]);
	});
});

describe("publish", () => {
	test("publish syncs every file and directory below before the rename, and the parent after it", async () => {
		const from = join(directory, ".k");
		mkdirSync(join(from, "lib/modules"), { recursive: true });
		for (const name of ["vmlinux", "lib/modules/a.ko", "lib/modules/b.ko"]) writeFileSync(join(from, name), name);
		await publish(from, join(directory, "k"));
		const renamed = events.indexOf(`rename ${from} ${join(directory, "k")}`);
		const before = ["", "/vmlinux", "/lib", "/lib/modules", "/lib/modules/a.ko", "/lib/modules/b.ko"];
		expect(events.slice(0, renamed).sort()).toEqual(before.map((name) => `sync ${from}${name}`).sort());
		expect(events.slice(renamed + 1)).toEqual([`sync ${directory}`]);
		expect(atRisk()).toEqual([]);
	});

	test("publish that cannot sync gives no name", async () => {
		writeFileSync(join(directory, ".a"), "text");
		fault.sync = Object.assign(new Error("EIO"), { code: "EIO" });
		await expect(publish(join(directory, ".a"), join(directory, "a"))).rejects.toThrow("EIO");
		expect(readdirSync(directory)).toEqual([".a"]);
	});
});
