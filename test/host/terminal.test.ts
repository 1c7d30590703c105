/*
 * Raw mode and its end, on a pseudo-terminal made by script(1). Every end of the process restores the mode.
 */
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { rawTerminal } from "../../src/host/terminal.ts";

/** Runs `ending` after rawTerminal(0) on a fresh terminal; the terminal's lflags as stty prints them, around it. */
function flagsAround(ending: string): { before: string; raw: string; after: string } {
	const script = `
		import { execFileSync } from "node:child_process";
		import { rawTerminal, restoreTerminal } from "./src/host/terminal.ts";
		rawTerminal(0);
		execFileSync("sh", ["-c", "echo raw=$(stty -g)"], { stdio: "inherit" });
		${ending}
	`;
	const shell = `echo before=$(stty -g); "${process.execPath}" --import tsx --input-type=module -e '${script}' 2>/dev/null; echo after=$(stty -g)`;
	const run = spawnSync("script", ["-qec", shell, "/dev/null"], {
		cwd: packageRoot(),
		encoding: "utf8",
		timeout: 30_000,
		stdio: ["pipe", "pipe", "pipe"],
	});
	const value = (name: string): string =>
		new RegExp(`${name}=(\\S+)`).exec(run.stdout)?.[1] ?? `no ${name}: ${run.stdout}`;
	return { before: value("before"), raw: value("raw"), after: value("after") };
}

describe("rawTerminal", () => {
	it.each([
		["restoreTerminal", "restoreTerminal();"],
		["the end of the program", ""],
		["an exception", `throw new Error("x");`],
		["SIGTERM", `process.kill(process.pid, "SIGTERM"); setTimeout(() => {}, 5000);`],
		["SIGSEGV", `process.kill(process.pid, "SIGSEGV"); setTimeout(() => {}, 5000);`],
		["SIGHUP", `process.kill(process.pid, "SIGHUP"); setTimeout(() => {}, 5000);`],
	])("is undone by %s", (_name, ending) => {
		const { before, raw, after } = flagsAround(ending);
		expect(before).toMatch(/^[0-9a-f:]+$/);
		expect(raw).not.toBe(before);
		expect(after).toBe(before);
	});

	it("refuses what is no terminal", () => {
		expect(() => rawTerminal(9999)).toThrow(expect.objectContaining({ code: "ERR_TERMINAL" }));
	});
});
