import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { describePackage, fetchPackage, hashFile, unpackPackage } from "../../src/debian/packages.ts";
import { run } from "../../src/host/command.ts";
import { fetchKernel } from "../../src/kernel/store.ts";

/*
 * These ask the host's own Debian mirror, as `kernel fetch` does: that apt is content with our private configuration
 * is what there is to show.
 */
const SMALL = "busybox-static";
const PATIENCE_MS = 180_000;

vi.mock("../../src/kernel/pins.ts", async (original) => {
	const pins = await original<typeof import("../../src/kernel/pins.ts")>();
	const gone = { ...pins.PINS["6.1-cloud"], version: "6.1.0-0", sha256: "00" };
	return { ...pins, PINS: { ...pins.PINS, "6.1-cloud": gone } };
});

let directory: string;
beforeAll(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
	process.env.TSVMM_CACHE = directory;
});
afterAll(() => {
	delete process.env.TSVMM_CACHE;
	rmSync(directory, { recursive: true });
});

test("fetchPackage downloads a package once for all who ask at the same time", { timeout: PATIENCE_MS }, async () => {
	const paths = await Promise.all([fetchPackage(SMALL), fetchPackage(SMALL)]);
	expect(paths[0]).toBe(paths[1]);
	expect(readdirSync(join(directory, "debs"))).toHaveLength(1);
	const { sha256, version } = await describePackage(SMALL);
	expect(await hashFile(paths[0])).toBe(sha256);
	expect(await fetchPackage(SMALL, { version, sha256 })).toBe(paths[0]);
});

test("fetchPackage removes what a killed download has left", { timeout: PATIENCE_MS }, async () => {
	const path = await fetchPackage(SMALL);
	const left = join(directory, "apt/bookworm/download");
	rmSync(path);
	mkdirSync(left);
	writeFileSync(join(left, "half.deb"), "half");
	expect(await fetchPackage(SMALL)).toBe(path);
	expect(existsSync(left)).toBe(false);
	expect(readdirSync(join(directory, "debs"))).toHaveLength(1);
});

test("fetchPackage fetches a cached package anew when its bytes have changed", { timeout: PATIENCE_MS }, async () => {
	const path = await fetchPackage(SMALL);
	writeFileSync(path, "damaged");
	expect(await fetchPackage(SMALL)).toBe(path);
	expect(statSync(path).size).toBeGreaterThan(100_000);
});

test("fetchPackage refuses a package whose hash is not the pinned one", { timeout: PATIENCE_MS }, async () => {
	const fetching = fetchPackage(SMALL, { sha256: "12".repeat(32) });
	await expect(fetching).rejects.toMatchObject({ code: "ERR_PACKAGE_HASH" });
});

test("fetchPackage says that there is no such package or version", { timeout: PATIENCE_MS }, async () => {
	await expect(fetchPackage("tsvmm-no-such")).rejects.toMatchObject({ code: "ERR_PACKAGE_NOT_FOUND" });
	await expect(fetchPackage(SMALL, { version: "0.1-1" })).rejects.toThrow(`Cannot find Debian package ${SMALL} 0.1-1`);
});

test("fetchKernel points to --latest when the mirror has dropped the pin", { timeout: PATIENCE_MS }, async () => {
	await expect(fetchKernel("6.1-cloud")).rejects.toMatchObject({
		code: "ERR_KERNEL_PIN_GONE",
		hint: expect.stringContaining("--latest"),
	});
	expect(readdirSync(join(directory, "kernels")).filter((name) => !name.endsWith(".lock"))).toEqual([]);
});

test("unpackPackage unpacks a package that appears complete or not at all", async () => {
	const tree = join(directory, "tree");
	mkdirSync(join(tree, "DEBIAN"), { recursive: true });
	writeFileSync(
		join(tree, "DEBIAN/control"),
		"Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n",
	);
	writeFileSync(join(tree, "file"), "content");
	await run("dpkg-deb", ["--root-owner-group", "-b", tree, join(directory, "x.deb")]);
	await Promise.all([1, 2].map(() => unpackPackage(join(directory, "x.deb"), join(directory, "out/x"))));
	expect(readdirSync(join(directory, "out"))).toEqual(["x"]);
	expect(readdirSync(join(directory, "out/x"))).toEqual(["file"]);

	writeFileSync(join(directory, "bad.deb"), "no package");
	const unpacking = unpackPackage(join(directory, "bad.deb"), join(directory, "out/bad"));
	await expect(unpacking).rejects.toMatchObject({ code: "ERR_TOOL_FAILED" });
	expect(readdirSync(join(directory, "out"))).toEqual(["x"]);
});
