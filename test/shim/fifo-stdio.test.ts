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

const LOGGED = { id: "box", namespace: "default" };
const descriptors = () => readdirSync("/proc/self/fd").length;

test("fifoStdio reads what others have written, and ends when it is told so", async () => {
	const { stdio, closeInput, close } = fifoStdio({ stdin, stdout, stderr: "", terminal: false }, LOGGED);
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
		const { stdio, close } = fifoStdio({ stdin: "", stdout: `file://${file}`, stderr: "", terminal: true }, LOGGED);
		await new Promise((resolve) => stdio.stdout.write(line, resolve));
		close();
	}
	expect(readFileSync(file, "utf8")).toBe("first\nsecond\n");
});

test("fifoStdio gives the output to the program of a URI, which may take its time", async () => {
	const program = join(folder, "logs it");
	const words = 'sleep 0.1; exec >"$2"; echo "$CONTAINER_ID $CONTAINER_NAMESPACE $# $1 $3"; cat <&3; cat <&4';
	writeFileSync(program, `#!/bin/sh\n${words}\necho done\n`, { mode: 0o755 });
	const log = join(folder, "program's log");
	const before = descriptors();
	const uri = new URL(`binary://${encodeURI(program)}`);
	uri.searchParams.set("--file", log);
	uri.searchParams.set("more", "");
	const { stdio, close } = fifoStdio({ stdin: "", stdout: `${uri}`, stderr: `${uri}`, terminal: false }, LOGGED);
	await new Promise((resolve) => stdio.stdout.write("out\n", resolve));
	await new Promise((resolve) => stdio.stderr.write("err\n", resolve));
	close();
	const logged = () => readFileSync(log, { encoding: "utf8", flag: "a+" });
	await expect.poll(logged).toBe("box default 3 --file more\nout\nerr\ndone\n");
	expect(descriptors()).toBe(before);
	const missing = `binary://${join(folder, "none")}`;
	expect(() => fifoStdio({ stdin: "", stdout: missing, stderr: missing, terminal: false }, LOGGED)).toThrow(
		"failed to start binary process",
	);
	expect(descriptors()).toBe(before);
});

test("fifoStdio leaves nothing open, also when one of them is missing", async () => {
	fifoStdio({ stdin, stdout, stderr: stdout, terminal: false }, LOGGED).close();
	await new Promise((resolve) => setImmediate(resolve));
	const before = descriptors();
	for (let i = 0; i < 5; i++) {
		expect(() => fifoStdio({ stdin, stdout, stderr: join(folder, "none"), terminal: false }, LOGGED)).toThrow("ENOENT");
		fifoStdio({ stdin, stdout, stderr: stdout, terminal: false }, LOGGED).close();
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
	expect(descriptors()).toBe(before);
});
