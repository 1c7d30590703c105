/*
 * How long this process keeps its event loop busy in one turn. Time in which the JavaScript thread was ready but
 * another process ran is not counted (the second number of /proc/PID/task/TID/schedstat). So a busy machine does not
 * matter: only our own work and waiting count.
 */
import { closeSync, openSync, readSync } from "node:fs";

/** Runs `work` while every turn of the event loop is measured. Resolves with the longest, in ms. */
export async function longestTurnMs(work: () => Promise<void>): Promise<number> {
	const stat = openSync(`/proc/self/task/${process.pid}/schedstat`, "r");
	const text = Buffer.alloc(128);
	const waitedMs = () => Number(text.toString("latin1", 0, readSync(stat, text, 0, 128, 0)).split(" ")[1]) / 1e6;
	let longest = 0;
	let measuring = true;
	let since = performance.now() - waitedMs();
	const turn = () => {
		const now = performance.now() - waitedMs();
		longest = Math.max(longest, now - since);
		since = now;
		if (measuring) setImmediate(turn);
	};
	setImmediate(turn);
	try {
		await work();
	} finally {
		measuring = false;
		/* The turn in which `work` ended. */
		await new Promise((resolve) => setImmediate(resolve));
		closeSync(stat);
	}
	return longest;
}
