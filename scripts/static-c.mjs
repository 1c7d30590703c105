/*
 * Builds a program for guests: C, static by musl, small. Does nothing when the binary is newer than its sources; a build
 * that fails leaves the old binary alone.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";

const FLAGS = ["-static", "-Os", "-s", "-std=gnu11", "-Wall", "-Wextra", "-Werror"];
const SMALL = [
	"-ffunction-sections",
	"-fdata-sections",
	"-fno-asynchronous-unwind-tables",
	"-Wl,--gc-sections,-z,noseparate-code",
];

/** @param {string} output the binary @param {string[]} sources .c and .h files @param {string} name for messages */
export function buildStatic(output, sources, name) {
	const newest = Math.max(...sources.map((path) => statSync(path).mtimeMs));
	if (existsSync(output) && statSync(output).mtimeMs >= newest) return;
	mkdirSync(dirname(output), { recursive: true });
	const temporary = `${output}.${process.pid}`;
	const files = sources.filter((path) => path.endsWith(".c"));
	try {
		execFileSync("musl-gcc", [...FLAGS, ...SMALL, "-o", temporary, ...files], { stdio: "inherit" });
		renameSync(temporary, output);
	} catch (error) {
		rmSync(temporary, { force: true });
		if (error.code === "ENOENT") console.error(`Cannot build ${name}: musl-gcc is missing (Debian: musl-tools)`);
		process.exitCode = 1;
	}
}
