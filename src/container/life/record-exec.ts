/*
 * Tells `events` of one more process in a container: exec_create, exec_start and exec_die, as Docker does.
 */
import { randomBytes } from "node:crypto";
import { exitStatus, type Session } from "../../agent/session.ts";
import type { StoredContainer } from "./store.ts";

/** @param starting of that process; its failure is the caller's */
export async function recordExec(
	container: StoredContainer,
	args: readonly string[],
	starting: Promise<Session>,
): Promise<Session> {
	const execID = randomBytes(32).toString("hex");
	const command = args.join(" ");
	container.record(`exec_create: ${command}`, { execID });
	const session = await starting;
	container.record(`exec_start: ${command}`, { execID });
	const ended = (exitCode: number) => container.record("exec_die", { execID, exitCode: `${exitCode}` });
	session.exit.then(
		(exit) => ended(exitStatus(exit)),
		() => undefined,
	);
	return session;
}
