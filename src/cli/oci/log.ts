/*
 * The runtime's log as its callers read it: runc's. Without --log it goes to standard error as text; with it an error is
 * in the file, as text or JSON, and its plain words are on standard error.
 */
import { appendFileSync } from "node:fs";
import { explain, TsvmmError } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";

export interface LogOptions {
	log?: string | undefined;
	logFormat: string;
	debug: boolean;
}

/** Writes down why a command has failed. @returns its exit status */
export function logFailure(error: unknown, { log, logFormat }: LogOptions): number {
	const known = error instanceof TsvmmError;
	const message = known ? error.message : explain(error);
	if (!known && process.env.TSVMM_DEBUG) process.stderr.write(`${(error as Error).stack}\n`);
	const line = format("error", message, logFormat);
	if (log === undefined || log === "") process.stderr.write(line);
	else {
		write(log, line);
		process.stderr.write(`${printable(message)}\n`);
	}
	return known && error.exitStatus !== 125 ? error.exitStatus : 1;
}

function write(path: string, line: string): void {
	try {
		appendFileSync(path, line, { mode: 0o644 });
	} catch {
		/* The message is on standard error as well. */
	}
}

function format(level: string, message: string, logFormat: string): string {
	const time = `${new Date().toISOString().slice(0, 19)}Z`;
	if (logFormat === "json") return `${JSON.stringify({ level, msg: message, time })}\n`;
	return `time="${time}" level=${level} msg=${JSON.stringify(message)}\n`;
}
