/*
 * A lock between processes: one at a time, the wait for it can be given up, Ctrl-C does not take it away.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { run } from "../../src/host/command.ts";
import { withFileLock } from "../../src/host/file-lock.ts";

let folder: string;
let path: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), "tsvmm-"));
	path = join(folder, "lock");
});
afterEach(() => rmSync(folder, { recursive: true }));

const isHeld = async () => (await run("flock", ["-n", "-E", "75", path, "true"], { accept: "any" })).status === 75;

describe("withFileLock", () => {
	test("withFileLock lets one in at a time and frees the lock when the work fails", async () => {
		let inside = 0;
		const work = async () => {
			expect(++inside).toBe(1);
			await new Promise((resolve) => setTimeout(resolve, 20));
			inside--;
		};
		await Promise.all([withFileLock(path, work), withFileLock(path, work)]);
		await expect(withFileLock(path, () => Promise.reject(new Error("full")))).rejects.toThrow("full");
		expect(await isHeld()).toBe(false);
	});

	test("withFileLock gives the wait up when its signal aborts, and leaves the holder alone", async () => {
		await withFileLock(path, async () => {
			const abort = new AbortController();
			const waiting = withFileLock(path, () => Promise.resolve("in"), abort.signal);
			setTimeout(() => abort.abort(new Error("enough")), 50);
			await expect(waiting).rejects.toThrow("enough");
			expect(await isHeld()).toBe(true);
		});
		expect(await isHeld()).toBe(false);
	});

	test("withFileLock takes no signal of this process's group for the end of the lock", async () => {
		await withFileLock(path, async () => {
			const { stdout } = await run("ps", ["-o", "pgid=,args=", "--ppid", String(process.pid)]);
			const holder = stdout.split("\n").find((line) => line.includes(path));
			const own = (await run("ps", ["-o", "pgid=", "-p", String(process.pid)])).stdout.trim();
			expect(holder?.trim().split(" ")[0]).toMatch(/^\d+$/);
			expect(holder?.trim().split(" ")[0]).not.toBe(own);
		});
	});
});
