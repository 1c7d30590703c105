/* `tsvmm device new`: the skeleton is short, loads, and works under a driver; no file is overwritten. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PACKAGE_MODULES } from "../../src/package-modules.ts";
import { DeviceFile } from "../../src/workbench/device-file.ts";
import { writeSkeleton } from "../../src/workbench/skeleton.ts";
import { bundle } from "../cli/tsvmm.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { readable, writable } from "../driver/fake-queue.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-skeleton-"));
beforeAll(bundle, 60_000);
afterAll(() => rmSync(directory, { recursive: true }));

test("the skeleton takes fewer than sixty lines, and answers a driver", async () => {
	const files = writeSkeleton("my-device2", join(directory, "new"));
	const path = join(directory, "new/my-device2.ts");
	expect(files).toEqual([path, join(directory, "new/my-device2.test.ts")]);
	const source = readFileSync(path, "utf8");
	expect(source).toContain("class MyDevice2 implements");
	expect(source.split("\n").length).toBeLessThan(60);
	const device = await new DeviceFile({ path, watched: true, options: {} }, PACKAGE_MODULES).load();
	expect(device.name).toBe("my-device2");
	const driver = new FakeDriver(device).start();
	const used = await driver.queue(0).request([readable("desserts"), writable(8)], true);
	expect(Buffer.from(used.data).toString()).toBe("stressed");
});

test("a file that is there stays", () => {
	const path = join(directory, "old.ts");
	writeFileSync(path, "mine");
	expect(() => writeSkeleton("old", directory)).toThrow(expect.objectContaining({ code: "ERR_DEVICE_NAME" }));
	expect(readFileSync(path, "utf8")).toBe("mine");
	writeFileSync(join(directory, "tested.test.ts"), "mine");
	expect(() => writeSkeleton("tested", directory)).toThrow(/tested\.test\.ts: the file is there$/);
	expect(existsSync(join(directory, "tested.ts"))).toBe(false);
});

test.each(["", "A", "../x", "a b", "-a", "a-", "1a", "a".repeat(41)])("%j is no name", (name) => {
	expect(() => writeSkeleton(name, directory)).toThrow(/it is no plain name$/);
	expect(existsSync(join(directory, `${name}.ts`))).toBe(false);
});

test("a directory that cannot be made is told", () => {
	expect(() => writeSkeleton("x", "/proc/none/deep")).toThrow(expect.objectContaining({ code: "ERR_DEVICE_WRITE" }));
});
