/*
 * Runs the real command line as a child process: the bundle in dist/, in a fresh directory, with its own cache and
 * runtime directory. `left` lists the files that a command makes outside its cache.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { packageRoot } from "../../src/host/native.ts";

export const program = join(packageRoot(), "dist/tsvmm.js");

/** Builds the bundle if a source has changed. */
export function bundle(): void {
	execFileSync(process.execPath, [join(packageRoot(), "scripts/bundle.mjs")], { stdio: "pipe" });
}

export interface Outcome {
	/** Exit status, or 128 + signal as a shell has it; "hung" when it had to be killed. */
	readonly status: number | "hung";
	readonly stdout: string;
	readonly stderr: string;
	/** Names in the working directory that were not there before. */
	readonly left: string[];
}

export interface Setting {
	/** Fills the working directory. */
	readonly prepare?: (directory: string) => unknown;
	readonly env?: Record<string, string>;
	/** Words in front of the command line, such as unshare or sh -c. */
	readonly through?: readonly string[];
	/** Called as output comes, with a way to send a signal. */
	readonly onOutput?: (stdout: string, stderr: string, kill: (signal: NodeJS.Signals) => void) => void;
	readonly input?: string;
	/** How long it may take; half a minute when missing. */
	readonly patienceMs?: number;
	/** Called after the end, while the working directory is still there. */
	readonly onEnd?: () => void;
}

/* The lab's processor is emulated. */
const PATIENCE_MS = process.env.TSVMM_LAB === "1" ? 100_000 : 30_000;
const SIGNALS: Record<string, number> = { SIGHUP: 1, SIGINT: 2, SIGPIPE: 13, SIGTERM: 15 };

/** Runs one command line to its end. */
export async function tsvmm(args: readonly string[], setting: Setting = {}): Promise<Outcome> {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-cli-"));
	const cwd = join(directory, "work");
	mkdirSync(cwd);
	try {
		await setting.prepare?.(cwd);
		const before = readdirSync(cwd);
		const [command, ...words] = [...(setting.through ?? []), process.execPath, "--", program, ...args];
		const result = await run(command!, words, cwd, { TSVMM_CACHE: join(directory, "cache"), ...setting.env }, setting);
		setting.onEnd?.();
		return { ...result, left: readdirSync(cwd).filter((name) => !before.includes(name)) };
	} finally {
		rmSync(directory, { recursive: true, force: true });
	}
}

function run(
	command: string,
	args: readonly string[],
	cwd: string,
	env: Record<string, string>,
	{ onOutput, input, patienceMs = PATIENCE_MS }: Setting,
): Promise<Omit<Outcome, "left">> {
	return new Promise((resolve, reject) => {
		const child = spawn(command, args, {
			cwd,
			env: { ...process.env, TSVMM_HOST: "direct", ...env },
			stdio: "pipe",
		});
		let stdout = "";
		let stderr = "";
		let hung = false;
		const timer = setTimeout(() => {
			hung = true;
			child.kill("SIGKILL");
		}, patienceMs);
		const seen = () => onOutput?.(stdout, stderr, (signal) => child.kill(signal));
		child.stdout.on("data", (chunk) => {
			stdout += chunk;
			seen();
		});
		child.stderr.on("data", (chunk) => {
			stderr += chunk;
			seen();
		});
		child.stdin.on("error", () => undefined);
		child.stdin.end(input ?? "");
		child.once("error", (error) => {
			clearTimeout(timer);
			reject(error);
		});
		child.once("close", (code, signal) => {
			clearTimeout(timer);
			resolve({ status: hung ? "hung" : (code ?? 128 + (SIGNALS[signal ?? ""] ?? 0)), stdout, stderr });
		});
	});
}

/** The one shape of a failure: status 125, one line, perhaps a hint, nothing on stdout, nothing left behind. */
export function expectError(outcome: Outcome, code: string, message: string, hint?: string): void {
	const lines = [`tsvmm: error: ${message} [${code}]`, ...(hint === undefined ? [] : [`  hint: ${hint}`])];
	expect(outcome).toEqual({ status: 125, stdout: "", stderr: `${lines.join("\n")}\n`, left: [] });
	expect(message).toMatch(/^Cannot .*[^.]$/s);
}

/** For `prepare`: a file. */
export const write = (name: string, data: string | Buffer) => (directory: string) =>
	writeFileSync(join(directory, name), data);
/** For `prepare`: a directory. */
export const directory = (name: string) => (directory: string) => mkdirSync(join(directory, name));
