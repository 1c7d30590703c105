/*
 * A program that logs a process's output: containerd names one by a URI, binary:///PATH?ARGUMENT=VALUE, as nerdctl does.
 * It reads standard output from its descriptor 3 and standard error from 4, and closes 5 when it is ready. What it is not
 * yet ready for waits in the pipes.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync } from "node:fs";
import type { Writable } from "node:stream";
import { ErrnoError } from "../base/errno-error.ts";
import { ignore } from "../base/errors.ts";
import { pipe } from "../host/libc.ts";
import { outputTo } from "../host/output.ts";

/** Whose output it is. */
export interface Logged {
	/** Of the container, or of the exec in it. */
	id: string;
	/** containerd's. */
	namespace: string;
}

/** How long it may take to write down what it has read, once the output has ended. */
const END_MS = 12_000;

export const isLogProgram = (uri: string) => uri.startsWith("binary://");

/**
 * Starts the program. It ends when both streams are destroyed, or is killed some seconds later.
 *
 * @throws Error when it cannot be started; nothing is open then
 */
export function startLogProgram(uri: string, { id, namespace }: Logged): { stdout: Writable; stderr: Writable } {
	const { pathname, searchParams } = new URL(uri);
	const path = decodeURIComponent(pathname);
	const args = [...searchParams].flatMap(([name, value]) => (value === "" ? [name] : [name, value]));
	const ends: number[] = [];
	const open = () => {
		const pair = pipe();
		if (typeof pair === "number") throw ErrnoError.of(-pair);
		ends.push(...pair);
		return pair;
	};
	try {
		const [output, errors, ready] = [open(), open(), open()];
		const child = spawn(path, args, {
			env: { ...process.env, CONTAINER_ID: id, CONTAINER_NAMESPACE: namespace },
			stdio: ["ignore", "ignore", "ignore", output[0], errors[0], ready[1]],
		});
		child.on("error", ignore);
		if (child.pid === undefined) throw new Error(`failed to start binary process ${JSON.stringify(path)}`);
		const [stdout, stderr] = [writerOf(output[1]), writerOf(errors[1])];
		void Promise.all([once(stdout, "close"), once(stderr, "close")]).then(() => end(child));
		return { stdout, stderr };
	} finally {
		for (const fd of ends) closeSync(fd);
	}
}

function end(child: ChildProcess): void {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const killer = setTimeout(() => child.kill("SIGKILL"), END_MS);
	child.once("exit", () => clearTimeout(killer));
}

/** The same pipe, opened once more so that only we do not wait for its reader. */
function writerOf(fd: number): Writable {
	return outputTo(openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK));
}
