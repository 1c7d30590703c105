/*
 * One more process in a container, with a process of the host that stands for it as the container's own does.
 */
import { AgentClient } from "../agent/client.ts";
import type { ExitStatus } from "../agent/session.ts";
import { connectTo } from "../host/request-socket.ts";
import type { Process } from "./bundle.ts";
import { carry, type PayloadStdio, payloadStdio } from "./payload.ts";
import { OciError } from "./runtime-error.ts";
import { startProcess } from "./start-process.ts";
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
	let stdio: PayloadStdio | undefined;
	try {
		await client.hello();
		stdio = payloadStdio(process.terminal === true, options.consoleSocket);
		const session = await startProcess(client, process, { container, size: stdio.size });
		options.onReady();
		return await carry(session, stdio);
	} finally {
		stdio?.close();
		client.close();
	}
}
