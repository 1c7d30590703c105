/*
 * Runs the host's own tools (apt-get, make, mkfs, ip ...) as children and collects their output. No child outlives
 * `run`: when `signal` aborts, its whole process group is killed.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import { errnoName, explain, HostError } from "../base/errors.ts";
import { signalStatus } from "../base/signals.ts";
import { findTool, searchPath, toolMissing } from "./tools.ts";

export interface RunOptions {
	cwd?: string;
	/** Added to this process's environment; undefined removes a variable. */
	env?: Record<string, string | undefined>;
	/** Written to the tool's stdin, which is /dev/null otherwise. */
	input?: string | Uint8Array;
	/** Called with each full line of stdout and stderr as it comes. */
	onLine?: (line: string, stream: "stdout" | "stderr") => void;
	signal?: AbortSignal;
	/** Exit statuses that are no failure: [0] when missing, all with "any". */
	accept?: readonly number[] | "any";
}

export interface RunResult {
	stdout: string;
	stderr: string;
	/** Exit status, or 128 + signal number. */
	status: number;
}

const KEPT_CHARACTERS = 16 * 1024 * 1024;

/** Splits a stream's text into lines for `onLine`, and collects the text up to a bound. */
function collect(stream: Readable, onLine: ((line: string) => void) | undefined): () => string {
	let text = "";
	let rest = "";
	stream.setEncoding("utf8");
	stream.on("data", (chunk: string) => {
		if (text.length < KEPT_CHARACTERS) text += chunk;
		if (onLine === undefined) return;
		const lines = (rest + chunk).split(/\r?\n/);
		rest = lines.pop()!;
		for (const line of lines) onLine(line);
	});
	stream.on("end", () => {
		if (rest !== "") onLine?.(rest);
	});
	return () => text;
}

/** Keeps the end of a child's stderr, for messages. Returns a function that returns what has come so far. */
export function keepTail(stderr: Readable, characters: number): () => string {
	let tail = "";
	stderr.setEncoding("utf8").on("data", (text: string) => {
		tail = (tail + text).slice(-characters);
	});
	return () => tail;
}

/**
 * Runs a tool to its end.
 *
 * @throws HostError ERR_TOOL_MISSING when it is not installed, ERR_TOOL_FAILED when it exits with a status that is not
 * accepted; the signal's reason when it was aborted
 * @example const { stdout } = await run("uname", ["-r"]);
 */
export async function run(tool: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
	const { cwd, input, onLine, signal, accept = [0] } = options;
	signal?.throwIfAborted();
	const path = findTool(tool);
	if (path === undefined) throw toolMissing(tool);
	const env: NodeJS.ProcessEnv = { ...process.env, ...options.env };
	env.PATH = searchPath(env);
	const child = spawn(path, args, {
		cwd,
		env,
		stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
		detached: signal !== undefined,
	}) as unknown as ChildProcessByStdio<Writable | null, Readable, Readable>;
	const stdout = collect(child.stdout, onLine && ((line) => onLine(line, "stdout")));
	const stderr = collect(child.stderr, onLine && ((line) => onLine(line, "stderr")));
	/* A tool that stops reading (EPIPE) fails with an exit status, which says more. */
	child.stdin?.on("error", () => undefined);
	child.stdin?.end(input);
	const status = await finish(child, tool, signal);
	signal?.throwIfAborted();
	const result = { stdout: stdout(), stderr: stderr(), status };
	if (accept !== "any" && !accept.includes(status)) throw toolFailed(tool, args, result);
	return result;
}

function finish(
	child: ChildProcessByStdio<Writable | null, Readable, Readable>,
	tool: string,
	signal: AbortSignal | undefined,
): Promise<number> {
	return new Promise((resolve, reject) => {
		let killer: NodeJS.Timeout | undefined;
		const kill = (name: NodeJS.Signals) => {
			try {
				process.kill(-child.pid!, name);
			} catch {
				/* The group has ended already. */
			}
		};
		const abort = () => {
			kill("SIGTERM");
			killer = setTimeout(() => kill("SIGKILL"), 2000);
		};
		signal?.addEventListener("abort", abort, { once: true });
		const settle = () => {
			clearTimeout(killer);
			signal?.removeEventListener("abort", abort);
		};
		child.once("error", (error) => {
			settle();
			reject(
				errnoName(error) === "ENOENT" && child.pid === undefined
					? toolMissing(tool, error)
					: new HostError("ERR_TOOL_FAILED", `Cannot run ${tool}: ${explain(error)}`, { cause: error }),
			);
		});
		child.once("close", (code, name) => {
			settle();
			resolve(code ?? signalStatus(constants.signals[name!]));
		});
	});
}

function toolFailed(tool: string, args: readonly string[], result: RunResult): HostError {
	const output = (result.stderr.trim() || result.stdout.trim()).split("\n").slice(-6).join("\n");
	const command = [tool, ...args].join(" ");
	const shown = command.length > 200 ? `${command.slice(0, 200)} ...` : command;
	return new HostError(
		"ERR_TOOL_FAILED",
		`Cannot run ${shown}: exit status ${result.status}${output === "" ? "" : `\n${output}`}`,
	);
}
