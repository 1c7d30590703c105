import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { cacheDirectory, runtimeDirectory } from "../../src/host/directories.ts";

let directory: string;
const saved = { ...process.env };
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
	for (const name of ["TSVMM_CACHE", "TSVMM_RUNTIME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"]) delete process.env[name];
});
afterEach(() => {
	process.env = { ...saved };
	rmSync(directory, { recursive: true });
});

test("cacheDirectory prefers TSVMM_CACHE to XDG_CACHE_HOME to the home directory", () => {
	process.env.HOME = join(directory, "home");
	expect(cacheDirectory()).toBe(join(directory, "home/.cache/tsvmm"));
	process.env.XDG_CACHE_HOME = join(directory, "xdg");
	expect(cacheDirectory()).toBe(join(directory, "xdg/tsvmm"));
	process.env.TSVMM_CACHE = join(directory, "own");
	expect(cacheDirectory()).toBe(join(directory, "own"));
	expect(statSync(join(directory, "own")).isDirectory()).toBe(true);
});

test("runtimeDirectory is private to its user", () => {
	process.env.XDG_RUNTIME_DIR = directory;
	expect(runtimeDirectory()).toBe(join(directory, "tsvmm"));
	expect(statSync(join(directory, "tsvmm")).mode & 0o777).toBe(0o700);
});

test("runtimeDirectory refuses a symbolic link that waits in its place", () => {
	symlinkSync("/tmp", join(directory, "link"));
	process.env.TSVMM_RUNTIME = join(directory, "link");
	expect(() => runtimeDirectory()).toThrow(expect.objectContaining({ code: "ERR_DIRECTORY" }));
});

test("cacheDirectory says why a directory cannot be made", () => {
	writeFileSync(join(directory, "file"), "");
	process.env.TSVMM_CACHE = join(directory, "file/cache");
	expect(() => cacheDirectory()).toThrow(/Cannot make .*file\/cache/);
});

test("cacheDirectory does not hang where no directory can be made although its parent exists", () => {
	process.env.TSVMM_CACHE = "/proc/tsvmm-cannot-be/cache";
	expect(() => cacheDirectory()).toThrow(/Cannot make \/proc\/tsvmm-cannot-be\/cache: no such file or directory/);
});
