/*
 * Starts this program once more as a process of its own, which outlives this one, and waits until it says on a pipe that
 * it is ready or has failed. A pipe that ends without a word means that it has died.
 */
import { type StdioOptions, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import type { Readable, Stream } from "node:stream";
import { HostError, ignore } from "../base/errors.ts";
import { ownProgram } from "./own-program.ts";
import { type Failure, failureOf, RemoteError } from "./request-socket.ts";

/** Descriptor of the new process on which it reports. */
const REPORT_FD = 3;
/** Descriptor of the new process for `channel`. */
export const CHANNEL_FD = 4;

/** What it may send before the report, which is JSON: white space does not matter there. */
const BEGUN = "\n";

/** What it reports once. */
interface Report {
	failure?: Failure;
}

export interface DetachedProcess {
	/** The command line after `tsvmm`. */
	words: readonly string[];
	/** The file that its output goes to; what was there before is lost. When missing, it has this process's streams. */
	log?: string | undefined;
	/** What it has as descriptor 4. */
	channel?: Stream | undefined;
	/** In place of it: gets what the process writes to descriptor 4. */
	onChannel?: ((stream: Readable) => void) | undefined;
	/** It asks no server by TLS, so it need not read the user's certificates, which Node does at each start. */
	withoutTls?: boolean;
	/** Of the error for one that dies: "Cannot start the container: its supervisor". */
	attempt: string;
	code: string;
	/** Told when the process says that it has begun, some time before it is ready. */
	onBegun?: (() => void) | undefined;
}

/**
 * Starts it.
 *
 * @returns resolves with its process number when it is ready; rejects with RemoteError why it is not, or with HostError
 * `code`
 */
export async function launchDetached({
	words,
	log,
	channel,
	onChannel,
	withoutTls = false,
	attempt,
	code,
	onBegun,
}: DetachedProcess): Promise<number> {
	const output = log === undefined ? undefined : openSync(log, "w", 0o600);
	const streams: Exclude<StdioOptions, string> =
		output === undefined ? ["inherit", "inherit", "inherit", "pipe"] : ["ignore", output, output, "pipe"];
	try {
		const child = spawn(process.execPath, [...ownProgram(), ...words], {
			cwd: "/",
			env: withoutTls ? { ...process.env, NODE_EXTRA_CA_CERTS: undefined } : process.env,
			/* A session of its own: no terminal and no signal of this one's reaches it. */
			detached: true,
			stdio: channel === undefined && onChannel === undefined ? streams : [...streams, channel ?? "pipe"],
		});
		onChannel?.(child.stdio[CHANNEL_FD] as Readable);
		const pipe = child.stdio[REPORT_FD] as Readable;
		child.once("error", () => pipe.destroy());
		child.unref();
		const report = await allOf(pipe, onBegun);
		failIfSo(report, () => {
			const tail = log === undefined ? "" : tailOf(log);
			return new HostError(code, `${attempt} has ended${tail === "" ? "" : `\n${tail}`}`);
		});
		return child.pid!;
	} finally {
		if (output !== undefined) closeSync(output);
	}
}

/** @param onBegun called whenever something has come */
async function allOf(pipe: Readable, onBegun: () => void = ignore): Promise<string> {
	let all = "";
	try {
		for await (const chunk of pipe.setEncoding("utf8")) {
			all += chunk as string;
			onBegun();
		}
	} catch {
		/* What is missing tells. */
	}
	return all;
}

function failIfSo(report: string, died: () => HostError): void {
	let found: Report;
	try {
		found = JSON.parse(report) as Report;
	} catch {
		throw died();
	}
	if (found.failure !== undefined) throw new RemoteError(found.failure);
}

function tailOf(path: string): string {
	try {
		return readFileSync(path, "utf8").trim().split("\n").slice(-6).join("\n");
	} catch {
		return "";
	}
}

/** In the process that was started, at most once and before it reports: it has begun. */
export function reportBegun(): void {
	try {
		writeSync(REPORT_FD, BEGUN);
	} catch {
		/* As below. */
	}
}

/**
 * In the process that was started: what reports that it is ready, or why it is not. Only the first call counts. From then
 * on the process bears that its own log cannot be written.
 *
 * @param code of a failure that has none
 */
export function readinessReporter(code: string): (error?: unknown) => void {
	/* A log on a disk that is full would otherwise end it, and what it supervises. */
	for (const stream of [process.stdout, process.stderr]) stream.on("error", ignore);
	let reported = false;
	return (error) => {
		if (reported) return;
		reported = true;
		const report: Report = error === undefined ? {} : { failure: failureOf(error, code) };
		try {
			writeSync(REPORT_FD, JSON.stringify(report));
			closeSync(REPORT_FD);
		} catch {
			/* Nobody listens: the process that started this one may have gone. */
		}
	};
}
