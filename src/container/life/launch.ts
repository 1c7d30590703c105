/*
 * Starts a container's supervisor as a process of its own, which outlives this one, and waits until the container runs
 * or has failed to. The supervisor says so on a pipe; a pipe that ends without a word means that it has died.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { HostError } from "../../base/errors.ts";
import { ownProgram } from "../../host/own-program.ts";
import { type Failure, RemoteError } from "../../host/request-socket.ts";
import type { StoredContainer } from "./store.ts";

/** Descriptor of the supervisor's on which it reports. */
export const REPORT_FD = 3;

/** What a supervisor reports once. */
export interface LaunchReport {
	failure?: Failure;
}

export interface LaunchOptions {
	/** The process waits for somebody to attach. */
	awaitAttach?: boolean;
}

/** A supervisor on its way. */
export interface Launch {
	/** Resolves when the container runs. @throws RemoteError why it does not; HostError ERR_CONTAINER_FAILED */
	readonly running: Promise<void>;
}

/** Starts the supervisor of a container. */
export function launchSupervisor(container: StoredContainer, { awaitAttach = false }: LaunchOptions = {}): Launch {
	const log = join(container.paths.directory, "supervisor.log");
	const output = openSync(log, "w", 0o600);
	try {
		const words = ["container", "supervise", container.id, ...(awaitAttach ? ["--await-attach"] : [])];
		const child = spawn(process.execPath, [...ownProgram(), ...words], {
			cwd: "/",
			/* A session of its own: no terminal and no signal of this one's reaches it. */
			detached: true,
			stdio: ["ignore", output, output, "pipe"],
		});
		const pipe = child.stdio[REPORT_FD] as Readable;
		child.once("error", () => pipe.destroy());
		child.unref();
		return { running: report(pipe, log) };
	} finally {
		closeSync(output);
	}
}

async function report(pipe: Readable, log: string): Promise<void> {
	let found: LaunchReport;
	try {
		found = JSON.parse(await text(pipe)) as LaunchReport;
	} catch {
		const words = tail(log);
		throw new HostError(
			"ERR_CONTAINER_FAILED",
			`Cannot start the container: its supervisor has ended${words === "" ? "" : `\n${words}`}`,
		);
	}
	if (found.failure !== undefined) throw new RemoteError(found.failure);
}

function tail(path: string): string {
	try {
		return readFileSync(path, "utf8").trim().split("\n").slice(-6).join("\n");
	} catch {
		return "";
	}
}
