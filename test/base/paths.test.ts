import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { cacheFolder, runtimeFolder } from "../../src/base/paths.ts";

let folder: string;
const saved = { ...process.env };
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), "tsvmm-"));
	for (const name of ["TSVMM_CACHE", "TSVMM_RUNTIME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"]) delete process.env[name];
});
afterEach(() => {
	process.env = { ...saved };
	rmSync(folder, { recursive: true });
});

test("cacheFolder prefers TSVMM_CACHE to XDG_CACHE_HOME to the home folder", () => {
	process.env.HOME = join(folder, "home");
	expect(cacheFolder()).toBe(join(folder, "home/.cache/tsvmm"));
	process.env.XDG_CACHE_HOME = join(folder, "xdg");
	expect(cacheFolder()).toBe(join(folder, "xdg/tsvmm"));
	process.env.TSVMM_CACHE = join(folder, "own");
	expect(cacheFolder()).toBe(join(folder, "own"));
	expect(statSync(join(folder, "own")).isDirectory()).toBe(true);
});

test("runtimeFolder is private to its user", () => {
	process.env.XDG_RUNTIME_DIR = folder;
	expect(runtimeFolder()).toBe(join(folder, "tsvmm"));
	expect(statSync(join(folder, "tsvmm")).mode & 0o777).toBe(0o700);
});

test("runtimeFolder refuses a symbolic link that waits in its place", () => {
	symlinkSync("/tmp", join(folder, "link"));
	process.env.TSVMM_RUNTIME = join(folder, "link");
	expect(() => runtimeFolder()).toThrow(expect.objectContaining({ code: "ERR_FOLDER" }));
});

test("cacheFolder says why a folder cannot be made", () => {
	writeFileSync(join(folder, "file"), "");
	process.env.TSVMM_CACHE = join(folder, "file/cache");
	expect(() => cacheFolder()).toThrow(/Cannot make .*file\/cache/);
});

test("cacheFolder does not hang where no folder can be made although its parent exists", () => {
	process.env.TSVMM_CACHE = "/proc/tsvmm-cannot-be/cache";
	expect(() => cacheFolder()).toThrow(/Cannot make \/proc\/tsvmm-cannot-be\/cache: no such file or directory/);
});
