/*
 * A lock between processes: one at a time, the wait for it can be given up, it ends with its holder.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { run } from "../../src/host/command.ts";
import { FileLock, tryFileLock, withFileLock } from "../../src/host/file-lock.ts";

let directory: string;
let path: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
	path = join(directory, "lock");
});
afterEach(() => rmSync(directory, { recursive: true }));

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

	test("withFileLock holds the lock itself: no child has it that a signal to our group could end", async () => {
		await withFileLock(path, async () => {
			const { stdout } = await run("ps", ["-o", "args=", "--ppid", String(process.pid)]);
			expect(stdout).not.toContain("flock");
			expect(await isHeld()).toBe(true);
		});
	});

	test("withFileLock gives the lock up with its process, however that ends", async () => {
		const script = `
			import { FileLock, tryFileLock, withFileLock } from ${JSON.stringify(join(process.cwd(), "src/host/file-lock.ts"))};
			await withFileLock(${JSON.stringify(path)}, async () => process.kill(process.pid, "SIGKILL"));
		`;
		const args = ["--import", "tsx", "--input-type=module", "-e", script];
		expect((await run(process.execPath, args, { accept: "any" })).status).toBe(137);
		expect(await isHeld()).toBe(false);
	});

	test("withFileLock says what it could not lock", async () => {
		await expect(withFileLock(join(directory, "no/lock"), () => Promise.resolve())).rejects.toMatchObject({
			code: "ERR_LOCK",
			message: `Cannot lock ${join(directory, "no/lock")}: no such file or directory`,
		});
	});
});

describe("FileLock", () => {
	test("FileLock is shared by many or exclusive, and changes from one to the other", async () => {
		const locks = await Promise.all([1, 2].map(() => FileLock.open(path)));
		const [one, other] = locks as [FileLock, FileLock];
		try {
			await one.take("shared");
			await other.take("shared");
			expect(await other.tryExclusive()).toBe(false);
			await one.close();
			expect(await other.tryExclusive()).toBe(true);
			await other.take("shared");
		} finally {
			await other.close();
		}
		expect(await isHeld()).toBe(false);
	});

	test("tryFileLock runs its work only while nobody has the lock, and never in the lab", async () => {
		const done: string[] = [];
		const attempt = (name: string) => tryFileLock(path, async () => void done.push(name));
		await withFileLock(path, async () => expect(await attempt("held")).toBe(false));
		expect(await attempt("free")).toBe(true);
		vi.stubEnv("TSVMM_LAB", "1");
		expect(await attempt("lab")).toBe(false);
		vi.unstubAllEnvs();
		expect(done).toEqual(["free"]);
	});
});
