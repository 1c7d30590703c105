/*
 * Builds the guest agent, guests/agent/*.c -> guests/out/agent, static by musl. Does nothing when the binary is newer
 * than its sources; a build that fails leaves the old binary alone.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = `${root}guests/agent`;
const output = `${root}guests/out/agent`;
const sources = readdirSync(folder).filter((name) => /\.[ch]$/.test(name));
const newest = Math.max(...sources.map((name) => statSync(`${folder}/${name}`).mtimeMs));

if (!existsSync(output) || statSync(output).mtimeMs < newest) {
	mkdirSync(`${root}guests/out`, { recursive: true });
	const temporary = `${output}.${process.pid}`;
	const flags = ["-static", "-Os", "-s", "-std=gnu11", "-Wall", "-Wextra", "-Werror"];
	const small = [
		"-ffunction-sections",
		"-fdata-sections",
		"-fno-asynchronous-unwind-tables",
		"-Wl,--gc-sections,-z,noseparate-code",
	];
	const files = sources.filter((name) => name.endsWith(".c")).map((name) => `${folder}/${name}`);
	try {
		execFileSync("musl-gcc", [...flags, ...small, "-o", temporary, ...files], { stdio: "inherit" });
		renameSync(temporary, output);
	} catch (error) {
		rmSync(temporary, { force: true });
		if (error.code === "ENOENT")
			console.error("Cannot build the guest agent: musl-gcc is missing (Debian: musl-tools)");
		process.exitCode = 1;
	}
}
