/*
 * Runs the lines of a table with a program, one after the other, and prints what came of them as JSON:
 *
 *     node play.mjs TABLE.json DIRECTORY PROGRAM [WORD...]
 *
 * The table has the lines, and the image's name. It runs in the lab, too, so it needs nothing but Node.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

const [table, directory, ...program] = process.argv.slice(2);
const { lines, environment } = JSON.parse(readFileSync(table, "utf8"));
const env = { ...process.env, ...environment, DIR: directory };
const answers = lines.map((line) => {
	const started = Date.now();
	const script = `ctr() { ${program.map((word) => `'${word}'`).join(" ")} "$@"; }\n${line}`;
	const options = { env, encoding: "utf8", timeout: 120_000, killSignal: "SIGKILL" };
	const { status, stdout, stderr } = spawnSync("sh", ["-c", script], { ...options, stdio: ["ignore", "pipe", "pipe"] });
	process.stderr.write(`${((Date.now() - started) / 1000).toFixed(1)} s: ${line.slice(0, 80)}\n`);
	return { line, status, stdout, stderr };
});
process.stdout.write(`${JSON.stringify(answers, undefined, "\t")}\n`);
