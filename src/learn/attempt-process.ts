/*
 * The process of one attempt (`tsvmm learn attempt`), seen from inside: it checks, and sends each finding to its parent
 * at once. The parent ends it: a program may leave threads and timers.
 */
import type { PackageModules } from "../host/user-module.ts";
import { Attempt } from "./attempt.ts";
import type { Lab } from "./lab.ts";
import { CheckEnded, type Finding, Report } from "./report.ts";

/** From the process of an attempt to its parent. */
export type AttemptMessage =
	| { readonly kind: "finding"; readonly finding: Finding }
	/** What the program is asked for next. */
	| { readonly kind: "doing"; readonly what: string }
	/** The JavaScript thread is not blocked. */
	| { readonly kind: "alive" }
	| { readonly kind: "done" };

const HEARTBEAT_MS = 500;

/** Checks `path`; resolves when all was said. */
export async function runAttempt(lab: Lab, path: string, modules: PackageModules): Promise<void> {
	const send = (message: AttemptMessage) => process.send?.(message);
	const report = new Report(
		(finding) => void send({ kind: "finding", finding }),
		(what) => void send({ kind: "doing", what }),
	);
	const heartbeat = setInterval(() => send({ kind: "alive" }), HEARTBEAT_MS).unref();
	process.channel?.unref();
	/* The parent's patience with a program begins here. */
	send({ kind: "alive" });
	try {
		await lab.check(new Attempt(report, path, modules));
	} catch (error) {
		if (!(error instanceof CheckEnded)) throw error;
	} finally {
		clearInterval(heartbeat);
	}
	send({ kind: "done" });
}
