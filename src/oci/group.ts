/*
 * The control group of a container in its machine: busybox, the agent's tool, reads and writes it in the agent's own
 * root (docs/agent.md, "Control groups").
 */
import type { AgentClient } from "../agent/client.ts";
import { readText } from "../agent/read-text.ts";
import { exitStatus } from "../agent/session.ts";
import type { Resources } from "./bundle.ts";
import { cgroupSettings } from "./resources.ts";
import { OciError } from "./runtime-error.ts";

/** Stops all processes of a container, or lets them go on. @throws OciError ERR_OCI_GROUP */
export async function freeze(client: AgentClient, name: string, frozen: boolean): Promise<void> {
	await writeGroup(client, name, [`cgroup.freeze=${frozen ? 1 : 0}`]);
}

/** Sets other limits. @throws OciError ERR_OCI_GROUP */
export async function limit(client: AgentClient, name: string, resources: Resources): Promise<void> {
	await writeGroup(client, name, cgroupSettings(resources));
}

/**
 * Sends a signal to all processes of a container. It may be frozen: they get the signal then when they go on.
 *
 * @throws OciError ERR_OCI_GROUP
 */
export async function signalAll(client: AgentClient, name: string, signal: number): Promise<void> {
	const pids = `cd "/sys/fs/cgroup/$0" || exit 1; find . -name cgroup.procs -exec cat {} +`;
	/* One that has just ended needs none. */
	const script = `${pids} | while read -r pid; do kill "-$1" "$pid" 2>/dev/null; done; true`;
	await runTool(client, ["sh", "-c", script, name, `${signal}`]);
}

async function writeGroup(client: AgentClient, name: string, settings: readonly string[]): Promise<void> {
	const script = `cd "/sys/fs/cgroup/$0" && for each; do echo "\${each#*=}" >"\${each%%=*}" || exit 1; done`;
	await runTool(client, ["sh", "-c", script, name, ...settings]);
}

/**
 * Runs busybox, in the agent's own root or in a container. Resolves with its output.
 *
 * @throws OciError ERR_OCI_GROUP when it fails
 */
export async function runTool(client: AgentClient, args: readonly string[], container?: string): Promise<string> {
	const session = await client.exec({
		tool: "busybox",
		args,
		stdin: "null",
		...(container === undefined ? {} : { container }),
	});
	const [output, complaint] = await Promise.all([readText(session.stdout), readText(session.stderr)]);
	if (exitStatus(await session.exit) === 0) return output;
	throw new OciError("ERR_OCI_GROUP", complaint.trim() || `busybox ${args[0]} has failed`);
}
