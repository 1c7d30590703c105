/*
 * Changes a container's limits and restart policy. One that runs gets its new limits by its control group, which bounds what
 * its machine has. A machine does not grow: more memory or processors than it was started with take a new start.
 */
import { text } from "node:stream/consumers";
import { HostError, StateError } from "../../base/errors.ts";
import { withRunningAgent } from "./agent-access.ts";
import type { ContainerConfig, RestartPolicy } from "./config.ts";
import { type MachineSize, machineSize } from "./machine-size.ts";
import type { ContainerStore, StoredContainer } from "./store.ts";

export interface ContainerUpdate {
	cpus?: number;
	memoryMiB?: number;
	/** Of pids.max: a number, or "max". */
	pidsLimit?: string;
	restart?: RestartPolicy;
}

/** What a control group limits. */
type Limits = { [Key in "cpus" | "memoryMiB" | "pidsLimit"]?: ContainerUpdate[Key] | undefined };

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
	/* In a machine with others its control group is all that limits it. */
	const limits = config.joins === undefined ? { pidsLimit } : { cpus, memoryMiB, pidsLimit };
	const cgroupLimits = { ...system.cgroupLimits, ...limitFiles(limits) };
	return {
		...config,
		cpus: cpus ?? config.cpus,
		memoryMiB: memoryMiB ?? config.memoryMiB,
		restart: restart ?? config.restart,
		system: { ...system, cgroupLimits },
	};
}

/** The files of the control group, and what is written to them. @param has what its machine has */
export function cgroupSettings(has: MachineSize, update: ContainerUpdate): Record<string, string> {
	const { cpus, memoryMiB } = update;
	const grows = (what: string, size: string) =>
		new StateError("ERR_UPDATE", `Cannot give the container more ${what} while it runs: its machine has ${size}`, {
			hint: "Stop the container first",
		});
	if (cpus !== undefined && cpus > has.cpus) throw grows("processors", `${has.cpus}`);
	if (memoryMiB !== undefined && memoryMiB > has.memoryMiB) throw grows("memory", `${has.memoryMiB} MiB`);
	return limitFiles(update);
}

function limitFiles({ cpus, memoryMiB, pidsLimit }: Limits): Record<string, string> {
	return {
		...(cpus === undefined ? {} : { "cpu.max": `${cpus * CPU_PERIOD_US} ${CPU_PERIOD_US}` }),
		...(memoryMiB === undefined ? {} : { "memory.max": `${memoryMiB * 2 ** 20}` }),
		...(pidsLimit === undefined ? {} : { "pids.max": pidsLimit }),
	};
}

const CPU_PERIOD_US = 100_000;

async function limit(container: StoredContainer, update: ContainerUpdate): Promise<void> {
	const settings = Object.entries(cgroupSettings(machineSize(container.config), update));
	if (settings.length === 0) return;
	await withRunningAgent(container, async ({ client, cgroup }) => {
		for (const [file, value] of settings) {
			const path = `/sys/fs/cgroup/${cgroup}/${file}`;
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
