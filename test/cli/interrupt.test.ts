/*
 * `tsvmm kernel fetch` interrupted: an apt-get of ours, which never comes to an end, stands in for a slow mirror.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test, vi } from "vitest";
import { bundle, tsvmm } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 60_000 });

beforeAll(bundle, 60_000);

/** Calls `then` once the file has content. */
function whenWritten(path: string, then: () => void): void {
	const timer = setInterval(() => {
		if (!existsSync(path) || readFileSync(path, "utf8") === "") return;
		clearInterval(timer);
		then();
	}, 20);
	/* A failing test must not wait for a file that never comes. */
	setTimeout(() => clearInterval(timer), 10_000).unref();
}

test.each([
	["SIGINT", 130],
	["SIGTERM", 143],
] as const)("kernel fetch ends on %s, apt-get with it, and leaves nothing half-made", async (signal, status) => {
	let directory = "";
	let aptPid = 0;
	let cached: string[] = [];
	let waiting = false;
	const outcome = await tsvmm(["kernel", "fetch"], {
		prepare: (where) => {
			directory = where;
			mkdirSync(join(where, "bin"));
			writeFileSync(join(where, "bin/apt-get"), `#!/bin/sh\necho $$ >"${where}/bin/pid"\nexec sleep 60\n`, {
				mode: 0o755,
			});
		},
		through: ["sh", "-c", 'PATH="$PWD/bin:$PATH"; TSVMM_CACHE="$PWD/bin/cache"; exec "$@"', "sh"],
		onOutput: (_stdout, _stderr, kill) => {
			if (waiting) return;
			waiting = true;
			whenWritten(join(directory, "bin/pid"), () => {
				aptPid = Number(readFileSync(join(directory, "bin/pid"), "utf8"));
				kill(signal);
			});
		},
		onEnd: () => {
			cached = readdirSync(join(directory, "bin/cache/kernels"));
		},
	});
	expect(outcome).toMatchObject({ status, stdout: "", left: [] });
	expect(outcome.stderr.split("\n").at(-2)).toBe(
		`tsvmm: error: Cannot fetch kernel "6.1-cloud": interrupted by ${signal} [ERR_INTERRUPTED]`,
	);
	/* Locks stay: who removes one may take it from somebody who waits for it. */
	expect(cached.filter((name) => !name.endsWith(".lock"))).toEqual([]);
	expect(() => process.kill(aptPid, 0)).toThrow("ESRCH");
});
