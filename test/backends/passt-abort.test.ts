import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { PasstBackend } from "../../src/backends/passt.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-passt-"));
afterEach(() => {
	vi.unstubAllEnvs();
	rmSync(directory, { recursive: true });
});

test("PasstBackend.open gives up when its signal is aborted, and leaves no process", async () => {
	/* A passt that never answers. */
	const pid = join(directory, "pid");
	writeFileSync(join(directory, "passt"), `#!/bin/sh\necho $$ > ${pid}\nexec sleep 600\n`);
	chmodSync(join(directory, "passt"), 0o755);
	vi.stubEnv("PATH", `${directory}${delimiter}${process.env.PATH}`);
	const abort = new AbortController();
	const opening = PasstBackend.open([], { signal: abort.signal });
	const refused = expect(opening).rejects.toThrow("no time");
	await expect.poll(() => readFileSync(pid, "latin1"), { timeout: 10_000 }).toMatch(/^\d+\n$/);
	const child = Number(readFileSync(pid, "latin1"));
	abort.abort(new Error("no time"));
	await refused;
	expect(() => process.kill(child, 0)).toThrow(expect.objectContaining({ code: "ESRCH" }));
});
