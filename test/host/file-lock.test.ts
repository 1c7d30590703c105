/*
 * A lock between processes: one at a time, the wait for it can be given up, it ends with its holder.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { FileLock, tryFileLock, withFileLock } from "../../src/host/file-lock.ts";

let directory: string;
let path: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
	path = join(directory, "lock");
});
afterEach(() => rmSync(directory, { recursive: true }));

const isHeld = async () => !(await tryFileLock(path, async () => undefined));

/** Another process that takes the lock, says so, and keeps it until its standard input ends. */
async function startHolder(): Promise<ChildProcess> {
	const script = `
		import { withFileLock } from ${JSON.stringify(join(process.cwd(), "src/host/file-lock.ts"))};
		await withFileLock(${JSON.stringify(path)}, async () => {
			console.log("locked");
			for await (const _ of process.stdin);
		});
	`;
	const args = ["--import", "tsx", "--input-type=module", "-e", script];
	const holder = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
	await once(holder.stdout, "data");
	return holder;
}

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

	test("withFileLock waits for another process, and gets the lock when that is done", async () => {
		const holder = await startHolder();
		const order: string[] = [];
		const waiting = withFileLock(path, async () => void order.push("in"));
		await expect(withFileLock(path, () => Promise.resolve(), AbortSignal.timeout(100))).rejects.toThrow("timeout");
		order.push("done");
		holder.stdin!.end();
		await Promise.all([waiting, once(holder, "close")]);
		expect(order).toEqual(["done", "in"]);
	}, 30_000);

	test("withFileLock gets the lock of a process that is killed", async () => {
		const holder = await startHolder();
		expect(await isHeld()).toBe(true);
		const waiting = withFileLock(path, () => Promise.resolve("in"));
		holder.kill("SIGKILL");
		expect(await Promise.all([waiting, once(holder, "exit")])).toEqual(["in", [null, "SIGKILL"]]);
	}, 30_000);

	test("withFileLock gives the lock back although a child that was started meanwhile still runs", async () => {
		let child: ChildProcess | undefined;
		await withFileLock(path, async () => {
			child = spawn("cat", { stdio: ["pipe", "ignore", "inherit"] });
			await once(child, "spawn");
			expect(await isHeld()).toBe(true);
		});
		expect([child!.exitCode, await isHeld()]).toEqual([null, false]);
		child!.stdin!.end();
		await once(child!, "close");
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
			expect(other.tryExclusive()).toBe(false);
			await one.close();
			expect(other.tryExclusive()).toBe(true);
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
