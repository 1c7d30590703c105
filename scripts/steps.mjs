/*
 * What the scripts of this directory share: the repository's root, running a child, and one line per step with its
 * time. They use nothing but Node, because they run before anything is installed.
 */
import { spawn } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root directory. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** A failure that has been explained: its message is all there is to say. */
export class StepError extends Error {}

/** Prints "setup: text" on stderr. */
export function say(script, text) {
	process.stderr.write(`${script}: ${text}\n`);
}

/** "0.4 s", "2 min 5 s" */
export function formatMs(ms) {
	return ms < 60_000
		? `${(ms / 1000).toFixed(1)} s`
		: `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/**
 * Runs a command in the root directory. With `quiet` its output is kept and shown only when it fails.
 *
 * @returns {Promise<{status: number, output: string}>}
 */
export function execute(command, args, { quiet = false, env = {} } = {}) {
	return new Promise((resolve, reject) => {
		const child = spawn(command, args, {
			cwd: root,
			env: { ...process.env, ...env },
			stdio: quiet ? ["ignore", "pipe", "pipe"] : "inherit",
		});
		let output = "";
		child.stdout?.on("data", (data) => (output += data));
		child.stderr?.on("data", (data) => (output += data));
		child.on("error", (error) => reject(new StepError(`Cannot run ${command}: ${error.message}`)));
		child.on("close", (code, signal) => resolve({ status: code ?? (signal === "SIGINT" ? 130 : 1), output }));
	});
}

/** Runs a command that must succeed. @throws StepError with its output when it was quiet */
export async function must(command, args, options = {}) {
	const { status, output } = await execute(command, args, options);
	if (status === 0) return output;
	/* The beginning often says why, the end where. */
	const all = output.trimEnd().split("\n");
	const lines = (all.length <= 40 ? all : [...all.slice(0, 15), "...", ...all.slice(-25)]).join("\n");
	throw new StepError(
		`${lines === "" ? "" : `${lines}\n`}Cannot run ${command} ${args.join(" ")}: exit status ${status}`,
	);
}

/** Runs one step; when `work` says that it did something (a string), prints what and how long it took. */
export async function step(script, work) {
	const start = performance.now();
	const did = await work();
	if (typeof did === "string") say(script, `${did} (${formatMs(performance.now() - start)})`);
}

/** Runs a script's main function: a StepError gives its message alone and exit status 1. */
export async function main(script, work) {
	try {
		await work();
	} catch (error) {
		say(script, error instanceof StepError ? error.message : (error?.stack ?? String(error)));
		process.exitCode ||= 1;
	}
}
