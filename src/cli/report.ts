/*
 * The only place that reports an error to the user and chooses the exit status. It prints "tsvmm: error: message", then
 * the hint on the next line. With TSVMM_DEBUG set the stack and causes follow.
 */
import { explain, TsvmmError } from "../base/errors.ts";
import { printable } from "../base/log.ts";

/** Prints `error` on stderr and returns the exit status for it. */
export function reportError(error: unknown): number {
	const known = error instanceof TsvmmError;
	/* Escaped, because parts of it may come from a guest or an image. */
	const message = printable(known ? error.message : explain(error));
	const lines = [`tsvmm: error: ${message}${known ? ` [${error.code}]` : ""}`];
	if (known && error.hint !== undefined) lines.push(`  hint: ${printable(error.hint)}`);
	if (!known || process.env.TSVMM_DEBUG) {
		for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
			lines.push(`  ${cause.stack ?? cause.message}`);
	}
	process.stderr.write(`${lines.join("\n")}\n`);
	return known ? error.exitStatus : 125;
}

/**
 * An uncaught exception ends the process with Node's stack trace and status 1, which looks like the payload's. This
 * makes it 125. Call it once, at the start.
 */
export function watchDefects(): void {
	process.on("uncaughtExceptionMonitor", () => {
		/* Somebody answers it, such as who runs the tests of a device. */
		if (process.listenerCount("uncaughtException") > 0) return;
		process.once("exit", () => {
			process.exitCode = 125;
		});
	});
}
