import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { HostError } from "../../src/base/errors.ts";
import { keepTail, run } from "../../src/host/command.ts";

test("run gives stdout, stderr and the exit status of a tool", async () => {
	const result = await run("sh", ["-c", "echo out; echo err >&2; exit 3"], { accept: [3] });
	expect(result).toEqual({ stdout: "out\n", stderr: "err\n", status: 3 });
});

test("run hands input, cwd and environment to the tool", async () => {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
	try {
		const result = await run("sh", ["-c", 'pwd; printf %s "$WORD"; cat'], {
			cwd: directory,
			env: { WORD: "x" },
			input: "body",
		});
		expect(result.stdout).toBe(`${directory}\nxbody`);
	} finally {
		rmSync(directory, { recursive: true });
	}
});

test("run calls onLine for each line, also a last one without a line feed", async () => {
	const lines: string[] = [];
	await run("sh", ["-c", "printf 'a\\nb'; printf 'c\\n' >&2"], { onLine: (line, stream) => lines.push(stream + line) });
	expect(lines.sort()).toEqual(["stderrc", "stdouta", "stdoutb"]);
});

test("run names the Debian package of a tool that is missing", async () => {
	await expect(run("tsvmm-no-such-tool", [])).rejects.toMatchObject({
		code: "ERR_TOOL_MISSING",
		hint: "Install it: apt-get install tsvmm-no-such-tool",
	});
});

test("run shows the last lines of stderr of a tool that fails", async () => {
	const error = await run("sh", ["-c", "echo disk is full >&2; exit 9"]).catch((e: unknown) => e);
	expect(error).toBeInstanceOf(HostError);
	expect(error).toMatchObject({ code: "ERR_TOOL_FAILED" });
	expect((error as Error).message).toContain("exit status 9\ndisk is full");
});

test("run ends the tool and its children when the signal aborts", async () => {
	const abort = new AbortController();
	const lines: string[] = [];
	const running = run("sh", ["-c", "sleep 300 & echo $!; wait"], {
		signal: abort.signal,
		onLine: (line) => {
			lines.push(line);
			abort.abort(new Error("enough"));
		},
	});
	await expect(running).rejects.toThrow("enough");
	/* Soon gone, or a zombie that this machine's init has yet to collect. */
	const path = `/proc/${lines[0]}/stat`;
	await expect.poll(() => (existsSync(path) ? readFileSync(path, "utf8") : "gone) Z")).toMatch(/\) Z/);
});

test("keepTail keeps the end of a stream, whole characters of it", async () => {
	const stderr = new PassThrough();
	const tail = keepTail(stderr, 4);
	const bytes = Buffer.from("no room: €uro");
	for (const byte of bytes) stderr.write(Uint8Array.of(byte));
	stderr.end();
	await new Promise((resolve) => stderr.once("end", resolve));
	expect(tail()).toBe("€uro");
});
