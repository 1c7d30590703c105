/*
 * Standard output that cannot be written: its reader has gone (`tsvmm image ls | head`), its disk is full. Node would
 * end the process with a stack trace. Here it is an exit status: 128 + SIGPIPE without a word, as of any program in a
 * pipe, and 125 with a message for everything else.
 */
import { constants } from "node:os";
import { errnoName, explain, HostError } from "../base/errors.ts";
import { signalStatus } from "../base/signals.ts";
import { reportError } from "./report.ts";

let failure: number | undefined;

/**
 * Call before anything is written. Node opens standard output here, and makes what it leads to non-blocking for whoever
 * shares it, so `run` and `boot`, whose output may wait for long, open it in their own way (host/output.ts) and do not
 * call this.
 */
export function watchOutput(): void {
	process.stdout.on("error", outputFailed);
	watchStderr();
}

/** Standard error that cannot be written is no failure: there is nobody left to tell. */
export function watchStderr(): void {
	process.stderr.on("error", () => undefined);
}

/** Standard output cannot be written. */
export function outputFailed(error: Error): void {
	if (failure !== undefined) return;
	failure =
		errnoName(error) === "EPIPE"
			? signalStatus(constants.signals.SIGPIPE)
			: reportError(new HostError("ERR_OUTPUT", `Cannot write standard output: ${explain(error)}`, { cause: error }));
	/* The command may have ended already. */
	process.exitCode = withOutput(Number(process.exitCode ?? 0));
}

/** `status`, unless it claims success although output was lost. */
export function withOutput(status: number): number {
	return status === 0 ? (failure ?? 0) : status;
}

/** What `--json` and `inspect` print, for programs and for eyes. */
export function printJson(value: unknown): void {
	process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}
