/*
 * When this process has reached what, before its program could note anything.
 */
import { readFileSync } from "node:fs";
import { clockMs, type Mark } from "../base/timeline.ts";

/** USER_HZ, the unit of /proc/PID/stat on x86-64. */
const TICK_MS = 10;
/** Of starttime, the 22nd field, behind the name in parentheses, which is the second. */
const STARTTIME = 19;

let programMs: number | undefined;

/** The bundle is loaded, and its program begins. */
export function noteProgram(): void {
	programMs ??= clockMs();
}

/** When this process was made, as the kernel knows it, to 10 ms; never later than Node's own clock begins. */
export function processStartMs(): number {
	const nodeMs = nodeStartMs();
	try {
		const stat = readFileSync("/proc/self/stat", "utf8");
		const ticks = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[STARTTIME]);
		const uptimeMs = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1000;
		const startMs = clockMs() - uptimeMs + ticks * TICK_MS;
		return Number.isFinite(startMs) ? Math.min(startMs, nodeMs) : nodeMs;
	} catch {
		return nodeMs;
	}
}

/** "exec" until Node's own clock begins, "node" until Node runs a program, "bundle" until that is loaded. */
export function processMarks(prefix = ""): Mark[] {
	const nodeMs = nodeStartMs();
	const bundle = programMs === undefined ? [] : [{ name: `${prefix}bundle`, atMs: programMs }];
	return [
		{ name: `${prefix}exec`, atMs: nodeMs },
		{ name: `${prefix}node`, atMs: nodeMs + performance.nodeTiming.bootstrapComplete },
		...bundle,
	];
}

function nodeStartMs(): number {
	return clockMs() - performance.now();
}
