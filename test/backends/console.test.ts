/*
 * Consoles whose reader is slow, gone, or never comes.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
	closeSync,
	constants,
	existsSync,
	mkdtempSync,
	openSync,
	readFileSync,
	readSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test, vi } from "vitest";
import { FileConsole } from "../../src/backends/console.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-console-"));
afterAll(() => rmSync(directory, { recursive: true }));

const { O_RDONLY, O_RDWR, O_NONBLOCK } = constants;

function fifo(name: string): string {
	const path = join(directory, name);
	execFileSync("mkfifo", [path]);
	return path;
}

/** What is in a pipe now. */
function take(fd: number): Buffer {
	const chunks: Buffer[] = [];
	try {
		for (;;) {
			const chunk = Buffer.alloc(65_536);
			const bytes = readSync(fd, chunk);
			if (bytes === 0) break;
			chunks.push(chunk.subarray(0, bytes));
		}
	} catch (error) {
		expect(error).toMatchObject({ code: "EAGAIN" });
	}
	return Buffer.concat(chunks);
}

/** Numbered lines, so that what is lost or doubled shows. */
function* lines(): Generator<Buffer> {
	for (let i = 0; ; i++) yield Buffer.from(`line ${i}\n`.padStart(512));
}

/** A FIFO with a console on it that was written to until it had no room; what was written. */
function stalled(name: string) {
	const path = fifo(name);
	const reader = openSync(path, O_RDONLY | O_NONBLOCK);
	const console = new FileConsole(path);
	let writable = 0;
	console.start({ input: () => undefined, writable: () => void writable++, resized: () => undefined });
	const source = lines();
	const written: Buffer[] = [];
	const fill = () => {
		for (let room = true; room; ) {
			const line: Buffer = source.next().value;
			/* The console keeps nothing that is ours. */
			const bytes = Buffer.from(line);
			room = console.write(bytes);
			bytes.fill(0);
			written.push(line);
		}
	};
	fill();
	return { path, reader, console, fill, written: () => Buffer.concat(written), writable: () => writable };
}

test("FileConsole on a FIFO has no more room once its reader sleeps, and loses nothing", async () => {
	const { reader, console, fill, written, writable } = stalled("slow");
	/* The pipe's 64 KiB, and what waits here. */
	expect(written().length).toBeLessThan(256 * 1024);
	const read: Buffer[] = [];
	for (let rounds = 1; rounds <= 5; rounds++) {
		while (writable() < rounds) {
			read.push(take(reader));
			await sleep(1);
		}
		fill();
	}
	const closed = console.close();
	while (Buffer.concat(read).length < written().length) {
		read.push(take(reader));
		await sleep(1);
	}
	await closed;
	expect(Buffer.concat(read).equals(written())).toBe(true);
	closeSync(reader);
});

test("FileConsole.close gives up on a reader that sleeps", async () => {
	const { reader, console } = stalled("asleep");
	vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
	try {
		let closed = false;
		const closing = console.close().then(() => {
			closed = true;
		});
		await vi.advanceTimersByTimeAsync(1000);
		expect(closed).toBe(false);
		await vi.advanceTimersByTimeAsync(1000);
		await closing;
	} finally {
		vi.useRealTimers();
	}
	await console.close();
	expect(console.write(Buffer.from("late"))).toBe(true);
	closeSync(reader);
});

test("FileConsole on a FIFO loses output while nobody has it open, and goes on with the next reader", async () => {
	const { path, reader, console, writable } = stalled("gone");
	closeSync(reader);
	await expect.poll(writable).toBe(1);
	for (let i = 0; i < 1000; i++) expect(console.write(Buffer.alloc(1024))).toBe(true);
	const next = openSync(path, O_RDONLY | O_NONBLOCK);
	expect(console.write(Buffer.from("again"))).toBe(true);
	expect(take(next).toString()).toBe("again");
	await console.close();
	closeSync(next);
});

test("FileConsole on a file always has room", async () => {
	const path = join(directory, "file");
	const console = new FileConsole(path);
	expect(console.write(Buffer.alloc(1 << 20, "x"))).toBe(true);
	expect(console.write(Buffer.from("y"))).toBe(true);
	expect(readFileSync(path, "latin1")).toBe(`${"x".repeat(1 << 20)}y`);
	await console.close();
});

test("StdioConsole stops taking output when nobody reads, and signals are served", { timeout: 60_000 }, async () => {
	const script = join(directory, "stdio.ts");
	const report = join(directory, "report");
	const source = new URL("../../src/backends/console.ts", import.meta.url).href;
	writeFileSync(
		script,
		`import { writeFileSync } from "node:fs";
		import { StdioConsole } from "${source}";
		const console = new StdioConsole();
		console.start({ input: () => undefined, writable: () => undefined, resized: () => undefined });
		let bytes = 0;
		process.once("SIGTERM", async () => {
			await console.close();
			process.exitCode = 7;
		});
		do bytes += 512; while (bytes < 1 << 28 && console.write(Buffer.alloc(512)));
		setInterval(() => undefined, 1e6).unref();
		writeFileSync("${report}", String(bytes));`,
	);
	const pipe = openSync(fifo("stdio"), O_RDWR);
	const child = spawn(process.execPath, ["--import", "tsx", script], { stdio: ["pipe", pipe, "inherit"] });
	const exit = once(child, "exit");
	await expect.poll(() => existsSync(report) && readFileSync(report, "utf8"), { timeout: 50_000 }).toMatch(/^\d+$/);
	expect(Number(readFileSync(report, "utf8"))).toBeLessThan(256 * 1024);
	child.kill("SIGTERM");
	expect(await exit).toEqual([7, null]);
	closeSync(pipe);
});
