/*
 * System calls on threads: results, errors, more calls than slots, and the end with calls in flight.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, expect, test } from "vitest";
import { close } from "../../src/host/libc.ts";
import { AT_EMPTY_PATH, O_RDONLY, SYS_close, SYS_mkdirat, SYS_openat } from "../../src/host/syscall-numbers.ts";
import { Syscalls } from "../../src/host/syscalls.ts";

const AT_FDCWD = -100;
const directory = mkdtempSync(join(tmpdir(), "syscalls-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** Opens a FIFO for reading, which waits until somebody writes. */
const openFifo = (calls: Syscalls, path: string) =>
	calls.performOpen((slot) => slot.set(SYS_openat, AT_FDCWD, slot.path(path), O_RDONLY));

function fifo(name: string): string {
	const path = join(directory, name);
	execFileSync("mkfifo", [path]);
	return path;
}

test("Syscalls gives results and errnos, on a thread and at once", async () => {
	const calls = new Syscalls();
	const fd = await calls.performOpen((slot) => slot.set(SYS_openat, AT_FDCWD, slot.path(directory), O_RDONLY));
	expect(fd).toBeGreaterThan(2);
	const make = () => calls.perform((slot) => slot.set(SYS_mkdirat, fd, slot.path("made"), 0o700));
	await make();
	await expect(make()).rejects.toMatchObject({ code: "EEXIST" });
	expect(calls.now((slot) => slot.set(SYS_close, 999_999)).result).toBe(-constants.errno.EBADF);
	expect(calls.now((slot) => slot.set(AT_EMPTY_PATH + 100_000)).result).toBe(-constants.errno.ENOSYS);
	close(fd);
	calls.close();
});

test("Syscalls refuses a path that is too long, and goes on", async () => {
	const calls = new Syscalls();
	const long = "x".repeat(4096);
	await expect(openFifo(calls, long)).rejects.toMatchObject({ code: "ENAMETOOLONG" });
	for (let i = 0; i < 600; i++) await expect(openFifo(calls, long)).rejects.toThrow();
	await expect(openFifo(calls, "/nowhere")).rejects.toMatchObject({ code: "ENOENT" });
	calls.close();
});

test("Syscalls makes a thousand calls, more than it has slots", async () => {
	const calls = new Syscalls();
	const makes = Array.from({ length: 1000 }, (_, i) =>
		calls.perform((slot) => slot.set(SYS_mkdirat, AT_FDCWD, slot.path(join(directory, `d${i}`)), 0o700)),
	);
	await Promise.all(makes);
	expect(readdirSync(directory).filter((name) => /^d\d+$/.test(name))).toHaveLength(1000);
	calls.close();
});

test("Syscalls ends with calls in flight: they fail, and what they open later is closed", async () => {
	const path = fifo("waits");
	const calls = new Syscalls();
	const before = readdirSync("/proc/self/fd").length;
	const waiting = openFifo(calls, path).catch((error: { code: string }) => error.code);
	await new Promise((resolve) => setTimeout(resolve, 50));
	calls.close();
	expect(await waiting).toBe("EBADF");
	await expect(openFifo(calls, path)).rejects.toMatchObject({ code: "EBADF" });
	/* The other end: the thread's call is over now. */
	execFileSync("sh", ["-c", `: >${path}`]);
	await expect.poll(() => readdirSync("/proc/self/fd").length).toBe(before);
});

test("Syscalls of a worker that is terminated leave no descriptor behind", async () => {
	const path = fifo("terminated");
	const module = new URL("../../src/host/syscalls.ts", import.meta.url).pathname;
	const before = readdirSync("/proc/self/fd").length;
	const program = `
		require("tsx/cjs");
		const { Syscalls } = require(${JSON.stringify(module)});
		const calls = new Syscalls();
		const { parentPort } = require("node:worker_threads");
		calls.performOpen((slot) => slot.set(257, -100, slot.path("/"), 0)).then((fd) => {
			calls.performOpen((slot) => slot.set(257, -100, slot.path(${JSON.stringify(path)}), 0));
			setTimeout(() => parentPort.postMessage(fd), 50);
		});`;
	const worker = new Worker(program, { eval: true });
	const fd = await new Promise<number>((resolve, reject) => {
		worker.once("message", resolve);
		worker.once("error", reject);
	});
	expect(fd).toBeGreaterThan(2);
	await worker.terminate();
	execFileSync("sh", ["-c", `: >${path}`]);
	await expect.poll(() => readdirSync("/proc/self/fd").length).toBe(before);
});
