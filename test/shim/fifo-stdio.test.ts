/*
 * A task's streams by FIFOs: what is in one is read until its end is told, and nothing stays open.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, expect, test } from "vitest";
import { fifoStdio } from "../../src/shim/fifo-stdio.ts";

const folder = mkdtempSync(join(tmpdir(), "fifos-"));
const [stdin, stdout] = [join(folder, "in"), join(folder, "out")];
execFileSync("mkfifo", [stdin, stdout]);
afterAll(() => rmSync(folder, { recursive: true }));

const descriptors = () => readdirSync("/proc/self/fd").length;

test("fifoStdio reads what others have written, and ends when it is told so", async () => {
	const { stdio, closeInput, close } = fifoStdio({ stdin, stdout, stderr: "", terminal: false });
	const read = text(stdio.stdin!);
	for (const part of ["one ", "two"]) {
		/* A writer that ends is not the end of the input. */
		writeFileSync(stdin, part);
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
	closeInput();
	expect(await read).toBe("one two");
	stdio.stderr.write("nobody reads this");
	close();
});

test("fifoStdio appends to the file of a URI", async () => {
	const file = join(folder, "log");
	for (const line of ["first\n", "second\n"]) {
		const { stdio, close } = fifoStdio({ stdin: "", stdout: `file://${file}`, stderr: "", terminal: true });
		await new Promise((resolve) => stdio.stdout.write(line, resolve));
		close();
	}
	expect(readFileSync(file, "utf8")).toBe("first\nsecond\n");
});

test("fifoStdio leaves nothing open, also when one of them is missing", async () => {
	fifoStdio({ stdin, stdout, stderr: stdout, terminal: false }).close();
	await new Promise((resolve) => setImmediate(resolve));
	const before = descriptors();
	for (let i = 0; i < 5; i++) {
		expect(() => fifoStdio({ stdin, stdout, stderr: join(folder, "none"), terminal: false })).toThrow("ENOENT");
		fifoStdio({ stdin, stdout, stderr: stdout, terminal: false }).close();
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
	expect(descriptors()).toBe(before);
});
