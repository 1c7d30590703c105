/*
 * Starting a process in a container, its first one or another, and why it cannot be started, as callers of runc read it.
 */
import { type AgentClient, ExecError } from "../agent/client.ts";
import type { ExecSpec } from "../agent/exec-spec.ts";
import type { Session } from "../agent/session.ts";
import type { Process } from "./bundle.ts";
import { execOf } from "./process.ts";
import { OciError } from "./runtime-error.ts";
import type { OciContainer } from "./state.ts";

/** Where and how a process is started. */
interface Start {
	container: OciContainer;
	/** It becomes process 1, and its working directory is made if it is missing; false when missing. */
	init?: boolean;
	/** Of its terminal, if it has one. */
	size?: { columns: number; rows: number } | undefined;
}

/** Starts a process in a container. @throws OciError ERR_OCI_EXEC in the words of runc */
export async function startProcess(
	client: AgentClient,
	process: Process,
	{ container, init = false, size }: Start,
): Promise<Session> {
	const base = execOf(process);
	const tty = base.tty === undefined ? {} : { tty: size ?? base.tty };
	const { agentName, filter } = container;
	const seccomp = filter === undefined ? {} : { seccomp: filter };
	const spec = { ...base, ...tty, ...seccomp, container: agentName, init, createCwd: init };
	try {
		return await client.exec(spec);
	} catch (error) {
		if (!(error instanceof ExecError)) throw error;
		throw new OciError("ERR_OCI_EXEC", `unable to start container process: ${explainExec(error, spec)}`, {
			cause: error,
		});
	}
}

/** In the words of Go's os/exec, which callers look for. */
function explainExec({ exitStatus, message }: ExecError, { args, cwd }: ExecSpec): string {
	const [name = ""] = args;
	const quoted = JSON.stringify(name);
	if (exitStatus === 127) {
		return name.includes("/")
			? `exec: ${quoted}: stat ${name}: no such file or directory`
			: `exec: ${quoted}: executable file not found in $PATH`;
	}
	const [, why = message.toLowerCase()] = /: ([^:]*)$/.exec(message) ?? [];
	if (message.includes("enter directory"))
		return `chdir to cwd (${JSON.stringify(cwd)}) set in config.json failed: ${why.toLowerCase()}`;
	return exitStatus === 126 ? `exec: ${quoted}: ${why.toLowerCase()}` : message;
}
