/*
 * A running machine as the host of containers that join it: a pod's members, and those of `--network container:`. Each
 * has its root, its namespaces and its control group; the network is the machine's.
 */
import { text } from "node:stream/consumers";
import type { AgentBroker } from "../../agent/broker.ts";
import { exitStatus } from "../../agent/session.ts";
import { StateError } from "../../base/errors.ts";
import { Container } from "../container.ts";
import type { RunningMachine } from "../running-machine.ts";
import { agentName } from "./config.ts";
import type { ContainerHost, ProcessStart } from "./container-host.ts";
import type { PrepareMember } from "./member-devices.ts";
import type { StoredContainer } from "./store.ts";

export class SharedMachine implements ContainerHost {
	readonly broker: AgentBroker | undefined;
	readonly #running: RunningMachine;
	readonly #prepare: PrepareMember;

	constructor(running: RunningMachine, broker: AgentBroker | undefined, prepare: PrepareMember) {
		this.#running = running;
		this.broker = broker;
		this.#prepare = prepare;
	}

	async start(stored: StoredContainer, { process, awaited, signal }: ProcessStart): Promise<Container> {
		const { config } = stored;
		const name = agentName(config);
		await abortable(awaited, signal);
		const member = await this.#prepare(stored, signal);
		let released: Promise<void> | undefined;
		const release = async () => {
			/* It is there no more when its process was process 1 and has ended. */
			await this.#running.orEarly(this.#running.client.remove(name)).catch(() => undefined);
			await member.release();
		};
		return await Container.join(this.#running, {
			name,
			steps: member.steps,
			init: config.process.init,
			process,
			stopSignal: config.stopSignal,
			signal,
			release: async () => {
				released ??= release();
				await released;
				return await Promise.race([this.#running.ended, Promise.resolve({ reason: "stopped" } as const)]);
			},
		});
	}

	async pause(container: StoredContainer): Promise<void> {
		await this.#freeze(container, "1");
	}

	async unpause(container: StoredContainer): Promise<void> {
		await this.#freeze(container, "0");
	}

	/** By the freezer of its control group: the machine's other containers go on. */
	async #freeze({ config, shortId }: StoredContainer, value: string): Promise<void> {
		const script = `echo ${value} >/sys/fs/cgroup/${agentName(config)}/cgroup.freeze`;
		const { client } = this.#running;
		const session = await this.#running.orEarly(
			client.exec({ tool: "busybox", args: ["sh", "-c", script], stdin: "null" }),
		);
		session.stdout.resume();
		const complaint = await text(session.stderr);
		if (exitStatus(await session.exit) === 0) return;
		throw new StateError("ERR_CONTAINER_FAILED", `Cannot freeze container ${shortId}: ${complaint.trim()}`);
	}
}

async function abortable(work: Promise<void>, signal: AbortSignal): Promise<void> {
	signal.throwIfAborted();
	const aborted = new Promise<never>((_, reject) => {
		signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
	});
	aborted.catch(() => undefined);
	await Promise.race([work, aborted]);
}
