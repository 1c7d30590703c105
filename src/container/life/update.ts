/*
 * Changes a container's limits and restart policy. One that runs gets its new limits by its control group, which bounds what
 * its machine has. A machine does not grow: more memory or processors than it was started with take a new start.
 */
import { text } from "node:stream/consumers";
import { HostError, StateError } from "../../base/errors.ts";
import { CGROUP } from "../setup-steps.ts";
import { withRunningAgent } from "./agent-access.ts";
import type { ContainerConfig, RestartPolicy } from "./config.ts";
import type { ContainerStore, StoredContainer } from "./store.ts";

export interface ContainerUpdate {
	cpus?: number;
	memoryMiB?: number;
	/** Of pids.max: a number, or "max". */
	pidsLimit?: string;
	restart?: RestartPolicy;
}

/** @throws StateError ERR_UPDATE for what a container that runs cannot get; HostError ERR_UPDATE */
export async function updateContainer(
	store: ContainerStore,
	container: StoredContainer,
	update: ContainerUpdate,
): Promise<void> {
	/* Nobody starts it meanwhile. */
	await container.exclusively(async () => {
		if (container.isSupervised()) await limit(container, update);
		await store.change(container, (config) => updated(config, update));
		container.record("update");
	});
}

function updated(config: ContainerConfig, { cpus, memoryMiB, pidsLimit, restart }: ContainerUpdate): ContainerConfig {
	if (restart !== undefined && restart.name !== "no" && config.autoRemove) {
		throw new StateError("ERR_UPDATE", "Cannot restart the container: it is removed when it has ended");
	}
	const { system } = config;
	return {
		...config,
		cpus: cpus ?? config.cpus,
		memoryMiB: memoryMiB ?? config.memoryMiB,
		restart: restart ?? config.restart,
		system:
			pidsLimit === undefined ? system : { ...system, cgroupLimits: { ...system.cgroupLimits, "pids.max": pidsLimit } },
	};
}

/** The files of the control group, and what is written to them. */
export function cgroupSettings(
	config: Pick<ContainerConfig, "cpus" | "memoryMiB">,
	{ cpus, memoryMiB, pidsLimit }: ContainerUpdate,
): Record<string, string> {
	const grows = (what: string, has: string) =>
		new StateError("ERR_UPDATE", `Cannot give the container more ${what} while it runs: its machine has ${has}`, {
			hint: "Stop the container first",
		});
	if (cpus !== undefined && cpus > config.cpus) throw grows("processors", `${config.cpus}`);
	if (memoryMiB !== undefined && memoryMiB > config.memoryMiB) throw grows("memory", `${config.memoryMiB} MiB`);
	return {
		...(cpus === undefined ? {} : { "cpu.max": `${cpus * CPU_PERIOD_US} ${CPU_PERIOD_US}` }),
		...(memoryMiB === undefined ? {} : { "memory.max": `${memoryMiB * 2 ** 20}` }),
		...(pidsLimit === undefined ? {} : { "pids.max": pidsLimit }),
	};
}

const CPU_PERIOD_US = 100_000;

async function limit(container: StoredContainer, update: ContainerUpdate): Promise<void> {
	const settings = Object.entries(cgroupSettings(container.config, update));
	if (settings.length === 0) return;
	await withRunningAgent(container, async ({ client }) => {
		for (const [file, value] of settings) {
			const path = `/sys/fs/cgroup/${CGROUP}/${file}`;
			const args = ["sh", "-c", 'echo "$1" >"$2"', "update", value, path];
			const session = await client.exec({ tool: "busybox", args, stdin: "null" });
			session.stdout.resume();
			const complaint = await text(session.stderr);
			const exit = await session.exit;
			if ("code" in exit && exit.code === 0) continue;
			throw new HostError("ERR_UPDATE", `Cannot set ${file} of container ${container.shortId}: ${complaint.trim()}`);
		}
	});
}
