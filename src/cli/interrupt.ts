/*
 * Long work on the host (fetching, compiling, importing) that a signal may end: what it has started ends with it, nothing
 * half-made stays, and the exit status is 128 + the signal's number, as a shell expects.
 */
import { constants } from "node:os";
import { InterruptedError } from "../base/signals.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Runs `work`; its signal aborts when this process is told to end. The same signal once more ends the process at once:
 * work may wait in a system call that nothing interrupts, such as opening a FIFO.
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
