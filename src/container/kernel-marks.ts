/*
 * The phases of a guest's kernel that has booted, as its own log tells them. Its console is quiet, so the agent's busybox
 * prints the log. That takes time, which is a phase of its own.
 */
import { clockMs, type Mark } from "../base/timeline.ts";
import { kernelMarks, lastStampMs } from "../machine/kernel-log.ts";
import type { RunningMachine } from "./running-machine.ts";

/** More than any kernel keeps by default. */
const LOG_CHARACTERS = 4 << 20;
/**
 * Stamps are of another clock than the agent's: it begins earlier. So both are read at the same moment, the other one by a
 * message of our own. A kernel may have stamps and not print them by itself.
 */
const SCRIPT =
	"read -r now rest </proc/uptime; echo $now; echo tsvmm: timings >/dev/kmsg; " +
	"echo Y >/sys/module/printk/parameters/time; exec /tools/busybox dmesg";

/** @returns nothing when the machine was made of a template, or its log cannot be had */
export async function readKernelMarks(running: RunningMachine): Promise<Mark[]> {
	const { kernelZeroMs } = running;
	if (kernelZeroMs === undefined) return [];
	try {
		const log = await readLog(running);
		const nowMs = Number(log.slice(0, log.indexOf("\n"))) * 1000;
		const stampMs = lastStampMs(log);
		if (stampMs === undefined || !Number.isFinite(nowMs)) return [];
		const zeroMs = kernelZeroMs - (stampMs - nowMs);
		const startMs = running.marks[0]?.atMs ?? zeroMs;
		return [...kernelMarks(log, { zeroMs, startMs }), { name: "dmesg", atMs: clockMs() }];
	} catch {
		/* What has ended the machine ends the next step, too. */
		return [];
	}
}

async function readLog(running: RunningMachine): Promise<string> {
	const exec = running.client.exec({ args: ["sh", "-c", SCRIPT], tool: "busybox", stdin: "null" });
	const session = await running.orEarly(exec);
	let log = "";
	session.stderr.resume();
	const reading = (async () => {
		for await (const chunk of session.stdout) {
			if (log.length < LOG_CHARACTERS) log += (chunk as Buffer).toString("latin1");
		}
	})();
	await running.orEarly(Promise.all([reading, session.exit]));
	return log;
}
