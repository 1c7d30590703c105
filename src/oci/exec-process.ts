/*
 * One more process in a container, with a process of the host that stands for it as the container's own does.
 */
import { AgentClient, ExecError } from "../agent/client.ts";
import type { ExecSpec } from "../agent/exec-spec.ts";
import type { ExitStatus, Session } from "../agent/session.ts";
import { connectTo } from "../host/request-socket.ts";
import type { Process } from "./bundle.ts";
import { carry, payloadStdio } from "./payload.ts";
import { execOf } from "./process.ts";
import { OciError } from "./runtime-error.ts";
import type { OciContainer } from "./state.ts";

export interface ExecOptions {
	/** Where the master of its terminal goes. */
	consoleSocket?: string | undefined;
	/** Called when it runs. */
	onReady: () => void;
}

/**
 * Runs a process to its end.
 *
 * @throws OciError ERR_OCI_EXEC when it could not be started, ERR_OCI_STOPPED when the container has ended
 */
export async function runExec(container: OciContainer, process: Process, options: ExecOptions): Promise<ExitStatus> {
	const { sandbox } = container.read();
	const socket = await connectTo(container.sibling(sandbox).agent);
	if (socket === undefined) throw new OciError("ERR_OCI_STOPPED", "cannot exec in a stopped container");
	const client = new AgentClient(socket);
	const stdio = payloadStdio(process.terminal === true, options.consoleSocket);
	try {
		await client.hello();
		const session = await startExec(client, process, container.agentName, stdio.size);
		options.onReady();
		return await carry(session, stdio);
	} finally {
		stdio.close();
		client.close();
	}
}

/**
 * Starts a process in a container.
 *
 * @param size of its terminal, if it has one
 * @throws OciError ERR_OCI_EXEC
 */
export async function startExec(
	client: AgentClient,
	process: Process,
	container: string,
	size?: { columns: number; rows: number },
): Promise<Session> {
	const base = execOf(process);
	const tty = base.tty === undefined ? {} : { tty: size ?? base.tty };
	const spec = { ...base, ...tty, container, createCwd: false };
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
