/*
 * linux.resources of config.json: the size of the machine, and the settings of the container's control group in it.
 */
import { availableParallelism } from "node:os";
import type { Config, Resources } from "./bundle.ts";
import { isCriSandbox } from "./pod.ts";

/** What a machine has when nothing limits its container, in MiB. */
const DEFAULT_MEMORY_MIB = 512;
/** What the guest's kernel and agent need besides the container, in MiB. */
const KERNEL_MIB = 96;
const LEAST_MEMORY_MIB = 192;
/** KVM's and our own bound. */
const MOST_CPUS = 32;
const MIB = 1 << 20;
/** The kernel's default period of a quota, in µs. */
const PERIOD_US = 100_000;

/**
 * The size of the machine of a container, or of the first one in it. A pod's is never smaller than without limits, because
 * some of its containers may have none.
 */
export function machineSize(config: Config): { cpus: number; memoryMiB: number } {
	const pod = podResources(config);
	const { cpu, memory } = pod ?? config.linux?.resources ?? {};
	const { quota = 0, period = PERIOD_US } = cpu ?? {};
	const limit = memory?.limit ?? 0;
	const wanted = quota > 0 && period > 0 ? Math.ceil(quota / period) : 1;
	const annotated = Number(config.annotations["dev.tsvmm.memory-mib"]);
	const asked = Number.isInteger(annotated) && annotated >= LEAST_MEMORY_MIB ? annotated : undefined;
	const limited = limit > 0 ? Math.max(Math.ceil(limit / MIB) + KERNEL_MIB, LEAST_MEMORY_MIB) : undefined;
	return {
		cpus: Math.min(Math.max(wanted, 1), availableParallelism(), MOST_CPUS),
		memoryMiB:
			pod === undefined
				? (limited ?? asked ?? DEFAULT_MEMORY_MIB)
				: (asked ?? Math.max(limited ?? 0, DEFAULT_MEMORY_MIB)),
	};
}

/**
 * What the containers of a pod may use together, as far as they have limits. The kubelet adds that up, and containerd's
 * CRI plugin passes it on.
 *
 * @returns undefined for what is no sandbox of that plugin
 */
function podResources(config: Config): Pick<Resources, "cpu" | "memory"> | undefined {
	if (!isCriSandbox(config)) return undefined;
	const value = (name: string) => Number(config.annotations[`io.kubernetes.cri.sandbox-${name}`] ?? 0);
	return {
		memory: { limit: value("memory"), reservation: undefined, swap: undefined },
		cpu: { quota: value("cpu-quota"), period: value("cpu-period"), shares: undefined, cpus: undefined },
	};
}

/** "memory.max=104857600" and so on: the files of cgroup v2 in the guest. */
export function cgroupSettings(resources: Resources | undefined): string[] {
	const { memory, cpu, pids } = resources ?? {};
	const settings: string[] = [];
	if (memory?.limit !== undefined && memory.limit !== 0) settings.push(`memory.max=${atMost(memory.limit)}`);
	if (memory?.reservation !== undefined && memory.reservation > 0) settings.push(`memory.low=${memory.reservation}`);
	if (cpu?.quota !== undefined && cpu.quota !== 0)
		settings.push(`cpu.max=${atMost(cpu.quota)} ${cpu.period ?? PERIOD_US}`);
	if (cpu?.shares !== undefined && cpu.shares > 0) settings.push(`cpu.weight=${weightOf(cpu.shares)}`);
	if (pids !== undefined && pids.limit !== 0) settings.push(`pids.max=${atMost(pids.limit)}`);
	return settings;
}

function atMost(limit: number): string {
	return limit < 0 ? "max" : `${limit}`;
}

/** Shares of cgroup v1, 2 to 262144, as a weight of v2, 1 to 10000; the conversion that all runtimes use. */
function weightOf(shares: number): number {
	return Math.floor(1 + ((Math.min(Math.max(shares, 2), 262_144) - 2) * 9999) / 262_142);
}
