/*
 * A way to the agent of a container's machine, for what needs no process of the container's: cp, export, stats. A machine
 * that does not run is booted for it, without the container's process, and ends afterwards.
 */
import { AgentClient } from "../../agent/client.ts";
import type { Session } from "../../agent/session.ts";
import { ignore, StateError } from "../../base/errors.ts";
import { connectTo } from "../../host/request-socket.ts";
import { CONTAINER_NAME } from "../container.ts";
import { ROOT_DISK } from "../run.ts";
import { CGROUP } from "../setup-steps.ts";
import { type BootedContainer, bootContainer } from "./boot.ts";
import { agentName, type ContainerConfig } from "./config.ts";
import { type ContainerDisks, memberDisks } from "./member-devices.ts";
import type { StoredContainer } from "./store.ts";

/** An agent whose container is set up. */
export interface ContainerAgent {
	/** Runs busybox in the container's root. Its stderr is the caller's, too. */
	busybox(args: readonly string[], options?: { stdin?: boolean }): Promise<Session>;
	readonly client: AgentClient;
	/** Serial numbers of its disks; `writable` is missing when that one is mounted in the agent's own root. */
	readonly disks: Partial<ContainerDisks> & Pick<ContainerDisks, "root">;
	/** Its control group. */
	readonly cgroup: string;
}

export interface AccessOptions {
	signal?: AbortSignal;
	/** Makes the machine of a container that does not run. Tests have machines of their own. */
	boot?: (container: Pick<StoredContainer, "config" | "paths">, signal: AbortSignal) => Promise<BootedContainer>;
}

/** Gives `work` the agent of a container, running or not. @throws what bootContainer and the agent throw */
export async function withContainerAgent<T>(
	container: StoredContainer,
	work: (agent: ContainerAgent) => Promise<T>,
	options: AccessOptions = {},
): Promise<T> {
	const { config } = container;
	const running = await connectTo(container.paths.agent);
	if (running !== undefined) return await withClient(new AgentClient(running), config, work);
	/* Nobody starts or removes it meanwhile. */
	return await container.exclusively(async () => {
		const started = await connectTo(container.paths.agent);
		if (started !== undefined) return await withClient(new AgentClient(started), config, work);
		if (container.isSupervised()) throw notReachable(container);
		return await withMaintenance(container, work, options);
	});
}

/** As withContainerAgent, for a container that runs. @throws StateError ERR_CONTAINER_NOT_RUNNING */
export async function withRunningAgent<T>(
	container: StoredContainer,
	work: (agent: ContainerAgent) => Promise<T>,
): Promise<T> {
	const socket = container.state().status === "running" ? await connectTo(container.paths.agent) : undefined;
	if (socket === undefined) throw notReachable(container);
	return await withClient(new AgentClient(socket), container.config, work);
}

async function withClient<T>(
	client: AgentClient,
	config: ContainerConfig,
	work: (agent: ContainerAgent) => Promise<T>,
): Promise<T> {
	try {
		await client.hello();
		return await work(agentOf(client, config));
	} finally {
		client.close();
	}
}

async function withMaintenance<T>(
	{ config, paths }: StoredContainer,
	work: (agent: ContainerAgent) => Promise<T>,
	{ signal = new AbortController().signal, boot = bootContainer }: AccessOptions,
): Promise<T> {
	/* Without its network and its devices: they may be another's now. A trace of its last run stays. */
	const { network: _, joins: _joins, devices: _devices, observed: _observed, ...rest } = config;
	const { guest, steps, machineSteps = [], rejectTemplate = ignore } = await boot({ config: rest, paths }, signal);
	const failed = guest.ended.then(() => {
		throw new StateError(
			"ERR_CONTAINER_FAILED",
			`Cannot reach the files of container ${config.id.slice(0, 12)}: its machine has ended
${guest.consoleTail()}`,
		);
	});
	failed.catch(() => undefined);
	try {
		guest.start();
		const client = new AgentClient(await Promise.race([guest.agent, failed]));
		try {
			try {
				await Promise.race([client.hello({ timeoutMs: BOOT_TIMEOUT_MS }), failed]);
				if (machineSteps.length > 0) await client.setup(machineSteps);
			} catch (error) {
				rejectTemplate(error);
				throw error;
			}
			await client.setup(steps, CONTAINER_NAME);
			const result = await Promise.race([work(agentOf(client, rest)), failed]);
			/* In order: what was written is on the disk then. */
			await Promise.race([client.powerOff().then(() => guest.ended), guest.ended]);
			return result;
		} finally {
			client.close();
		}
	} finally {
		await guest.stop();
	}
}

const BOOT_TIMEOUT_MS = 120_000;

function agentOf(client: AgentClient, config: Pick<ContainerConfig, "id" | "joins" | "image">): ContainerAgent {
	const container = agentName(config);
	return {
		client,
		disks: config.joins === undefined ? { root: ROOT_DISK } : memberDisks(config),
		cgroup: config.joins === undefined ? CGROUP : container,
		busybox: (args, { stdin = false } = {}) =>
			client.exec({ tool: "busybox", args, container, ...(stdin ? {} : { stdin: "null" }) }),
	};
}

function notReachable(container: StoredContainer): StateError {
	const { status } = container.state();
	return new StateError(
		"ERR_CONTAINER_NOT_RUNNING",
		`Cannot look into container ${container.shortId}: it is ${status}`,
		{ hint: status === "paused" ? `Run tsvmm unpause ${container.shortId}` : `Run tsvmm start ${container.shortId}` },
	);
}
