/*
 * Handles a failed write to standard output: its reader has gone (`tsvmm image ls | head`), or its disk is full. Node
 * would end the process with a stack trace. Here the exit status is 128 + SIGPIPE without a message, as for any program
 * in a pipe, and 125 with a message for other failures.
 */
import { constants } from "node:os";
import { errnoName, explain, HostError } from "../base/errors.ts";
import { signalStatus } from "../base/signals.ts";
import { reportError } from "./report.ts";

let failure: number | undefined;

/**
 * Call it before the first write. Node opens standard output here, which makes the pipe or terminal non-blocking for
 * all processes that share it. The output of `run` and `boot` may wait for long, so they do not call this and use
 * host/output.ts.
 */
export function watchOutput(): void {
	process.stdout.on("error", outputFailed);
	watchStderr();
}

/** A failed write to standard error is ignored: it cannot be reported anywhere. */
export function watchStderr(): void {
	process.stderr.on("error", () => undefined);
}

/** Standard output could not be written. */
export function outputFailed(error: Error): void {
	if (failure !== undefined) return;
	failure =
		errnoName(error) === "EPIPE"
			? signalStatus(constants.signals.SIGPIPE)
			: reportError(new HostError("ERR_OUTPUT", `Cannot write standard output: ${explain(error)}`, { cause: error }));
	/* The command may have set its exit status already. */
	process.exitCode = withOutput(Number(process.exitCode ?? 0));
}

/** `status`, or a failure's when output was lost. */
export function withOutput(status: number): number {
	return status === 0 ? (failure ?? 0) : status;
}

/** Prints what `--json` and `inspect` give. */
export function printJson(value: unknown): void {
	process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}
