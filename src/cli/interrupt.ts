/*
 * Lets a signal end long work on the host (a fetch, a build, an import). Its child processes end, nothing half-made
 * stays, and the exit status is 128 + the signal's number, as a shell expects.
 */
import { constants } from "node:os";
import { InterruptedError } from "../base/signals.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Runs `work`. A SIGINT, SIGTERM or SIGHUP aborts its signal. The same signal once more ends the process at once,
 * because work may wait in a system call that cannot be interrupted, such as opening a FIFO.
 *
 * @param what for the message: "build the kernel"
 */
export async function untilInterrupted<T>(what: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
	const abort = new AbortController();
	const stops = SIGNALS.map(
		(name) => [name, () => abort.abort(new InterruptedError(what, constants.signals[name]))] as const,
	);
	for (const [name, stop] of stops) process.once(name, stop);
	try {
		return await work(abort.signal);
	} finally {
		for (const [name, stop] of stops) process.off(name, stop);
	}
}
