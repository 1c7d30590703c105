/*
 * Commands that are interrupted. `tsvmm kernel fetch`: a fake apt-get that never ends plays a slow mirror. `tsvmm image
 * import -`: standard input is a FIFO that nobody writes to.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test, vi } from "vitest";
import { bundle, tsvmm } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 60_000 });

beforeAll(bundle, 60_000);

/** Calls `then` once `check` is true. */
function when(check: () => boolean, then: () => void): void {
	const timer = setInterval(() => {
		if (!check()) return;
		clearInterval(timer);
		then();
	}, 20);
	/* A failing test must not wait for what never comes. */
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
			const pid = join(directory, "bin/pid");
			const written = () => existsSync(pid) && readFileSync(pid, "utf8") !== "";
			when(written, () => {
				aptPid = Number(readFileSync(pid, "utf8"));
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

test("image import - ends on SIGINT while standard input waits, and leaves nothing staged", async () => {
	let staging = "";
	let staged: string[] | undefined;
	let waiting = false;
	const list = () => (existsSync(staging) ? readdirSync(staging) : []);
	const outcome = await tsvmm(["image", "import", "-", "app"], {
		prepare: (where) => {
			staging = join(where, "../cache/images/staging");
		},
		/* Open for reading and writing it never ends. */
		through: ["sh", "-c", 'mkfifo ../fifo; echo begins >&2; exec "$@" <>../fifo', "sh"],
		onOutput: (_stdout, _stderr, kill) => {
			if (waiting) return;
			waiting = true;
			when(
				() => list().length > 0,
				() => kill("SIGINT"),
			);
		},
		onEnd: () => {
			staged = list();
		},
	});
	expect(outcome).toEqual({
		status: 130,
		stdout: "",
		stderr: "begins\ntsvmm: error: Cannot import standard input: interrupted by SIGINT [ERR_INTERRUPTED]\n",
		left: [],
	});
	expect(staged).toEqual([]);
});
