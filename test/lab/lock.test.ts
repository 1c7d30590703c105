/*
 * The lab's lock, without a lab. Processes hand it on, and it ends with the last of them.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { isLocked, isOpenFile, takeLock } from "../../src/lab/lock.ts";
import { LabPaths } from "../../src/lab/paths.ts";

let directory: string;
let path: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
	path = join(directory, "lock");
});
afterEach(() => {
	vi.unstubAllEnvs();
	rmSync(directory, { recursive: true });
});

/** A shell with a child of its own, both of which inherit the lock; prints the child's process number. */
async function startHolders(lock: number): Promise<{ shell: ChildProcess; childPid: number }> {
	const shell = spawn("sh", ["-c", "sleep 60 & echo $!; wait"], { stdio: ["ignore", "pipe", "inherit", lock] });
	const [line] = (await once(shell.stdout!, "data")) as [Buffer];
	return { shell, childPid: Number(line) };
}

describe("takeLock", () => {
	test("takeLock takes the lock once, until its descriptor is closed", () => {
		expect(isLocked(path)).toBe(false);
		const lock = takeLock(path)!;
		expect([takeLock(path), isLocked(path)]).toEqual([undefined, true]);
		closeSync(lock);
		expect(isLocked(path)).toBe(false);
	});

	test("takeLock's lock lives on in the processes that inherit it, and ends with the last, which is killed", async () => {
		const lock = takeLock(path)!;
		const { shell, childPid } = await startHolders(lock);
		closeSync(lock);
		expect([isLocked(path), takeLock(path)]).toEqual([true, undefined]);
		shell.kill("SIGKILL");
		await once(shell, "exit");
		expect(isLocked(path)).toBe(true);
		process.kill(childPid, "SIGKILL");
		await vi.waitFor(() => expect(isLocked(path)).toBe(false));
	});

	test("takeLock's lock is not inherited by children to which it is not handed", async () => {
		const lock = takeLock(path)!;
		const child = spawn("cat", { stdio: ["pipe", "ignore", "inherit"] });
		await once(child, "spawn");
		closeSync(lock);
		expect([child.exitCode, isLocked(path)]).toEqual([null, false]);
		child.stdin.end();
		await once(child, "close");
	});

	test("takeLock takes none where the file's directory is gone", () => {
		expect([takeLock(join(directory, "gone/lock")), isLocked(join(directory, "gone/lock"))]).toEqual([
			undefined,
			false,
		]);
	});
});

test("isOpenFile tells a lock file from the one that has taken its name", () => {
	const lock = takeLock(path)!;
	expect(isOpenFile(lock, path)).toBe(true);
	renameSync(path, `${path}.old`);
	expect(isOpenFile(lock, path)).toBe(false);
	writeFileSync(path, "");
	expect(isOpenFile(lock, path)).toBe(false);
	closeSync(lock);
});

describe("LabPaths", () => {
	test("clean removes what a lab has left, but nothing of one that lives", () => {
		vi.stubEnv("TSVMM_RUNTIME", directory);
		const paths = new LabPaths("one");
		expect(paths.clean()).toBe(true);
		paths.make();
		const lock = takeLock(paths.lock)!;
		mkdirSync(join(paths.directory, "deep/er"), { recursive: true });
		writeFileSync(paths.supervisorLog, "words\n");
		expect([paths.clean(), readdirSync(paths.directory)]).toEqual([false, ["deep", "lock", "supervisor.log"]]);
		closeSync(lock);
		expect([paths.clean(), readdirSync(join(directory, "lab"))]).toEqual([true, []]);
	});
});
