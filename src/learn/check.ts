/*
 * Checks a student's program: starts a process for the attempt, gathers its findings and its output, and ends it. A
 * program that blocks its process, or kills it, gets a finding as well.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { boundCommand } from "../host/bound-command.ts";
import { ownProgram } from "../host/own-program.ts";
import type { AttemptMessage } from "./attempt-process.ts";
import type { Lab } from "./lab.ts";
import { patienceSeconds } from "./patience.ts";
import type { Finding } from "./report.ts";

const START_MS = 20_000;
const MOST_OUTPUT = 1 << 16;

export interface CheckResult {
	readonly solved: boolean;
	readonly findings: readonly Finding[];
	/** What the program wrote to its standard output and error, the first 64 KiB. */
	readonly output: string;
}

/** Runs the program at `path` and judges it. @param onFinding is called as they come */
export async function check(lab: Lab, path: string, onFinding?: (finding: Finding) => void): Promise<CheckResult> {
	const findings: Finding[] = [];
	const add = (finding: Finding) => {
		findings.push(finding);
		onFinding?.(finding);
	};
	/* A program in a loop would not see that we have gone. */
	const [program, words] = boundCommand([
		process.execPath,
		...ownProgram(),
		"learn",
		"attempt",
		String(lab.number),
		path,
	]);
	const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe", "ipc"] });
	let output = "";
	for (const stream of [child.stdout!, child.stderr!]) {
		stream.setEncoding("utf8").on("data", (text: string) => {
			if (output.length < MOST_OUTPUT) output += text;
		});
	}
	let last = "";
	const end = await ended(child, (message) => {
		if (message.kind === "finding") add(message.finding);
		if (message.kind === "finding") last = message.finding.text;
		if (message.kind === "doing") last = message.what;
	});
	if (end !== "done") add({ verdict: "wrong", text: unfinished(end, last, output), hint: UNFINISHED_HINTS[end] });
	const solved = findings.length > 0 && findings.every(({ verdict }) => verdict !== "wrong");
	return { solved, findings, output };
}

type End = "done" | "silent" | "gone";

const UNFINISHED_HINTS = {
	silent: "Look for a loop that never ends, and for a wait that blocks: await lets others run, a loop does not",
	gone: "Read what it printed: something in it ended the whole process",
};

function unfinished(end: "silent" | "gone", last: string, output: string): string {
	const after = last === "" ? "" : ` The last that was seen: ${last}.`;
	if (end === "silent") return `The program keeps its thread busy for ${patienceSeconds()} seconds.${after}`;
	const reason = /^\s*(\w*Error: .*)$/m.exec(output)?.[1];
	return `The program's process has ended in the middle of the check${reason === undefined ? "" : ` (${reason})`}.${after}`;
}

/** Kills the child at its last word, or when it says nothing for long. Resolves when it is gone. */
function ended(child: ChildProcess, onMessage: (message: AttemptMessage) => void): Promise<End> {
	return new Promise((resolve, reject) => {
		let end: End = "gone";
		const kill = (why: End) => {
			end = why;
			child.kill("SIGKILL");
		};
		const silence = 1000 * patienceSeconds();
		/* A busy machine may take long to start a process. */
		let timer = setTimeout(kill, silence + START_MS, "silent");
		child.on("message", (message: AttemptMessage) => {
			onMessage(message);
			if (message.kind === "done") end = "done";
			clearTimeout(timer);
			/* What it printed is on its way. What it has left open does not matter any more. */
			timer = end === "done" ? setTimeout(kill, 50, end) : setTimeout(kill, silence, "silent");
		});
		child.once("error", reject);
		child.once("close", () => {
			clearTimeout(timer);
			resolve(end);
		});
	});
}
