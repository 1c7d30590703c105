/*
 * linux.resources of config.json: the size of the machine, and the settings of the container's control group in it.
 */
import { availableParallelism } from "node:os";
import type { Config, Resources } from "./bundle.ts";

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

/** The size of the machine of a container, or of the first one in it. */
export function machineSize({ linux, annotations }: Config): { cpus: number; memoryMiB: number } {
	const { cpu, memory } = linux?.resources ?? {};
	const { quota = 0, period = PERIOD_US } = cpu ?? {};
	const limit = memory?.limit ?? 0;
	const wanted = quota > 0 && period > 0 ? Math.ceil(quota / period) : 1;
	const asked = Number(annotations["dev.tsvmm.memory-mib"] ?? DEFAULT_MEMORY_MIB);
	const unlimited = Number.isInteger(asked) && asked >= LEAST_MEMORY_MIB ? asked : DEFAULT_MEMORY_MIB;
	return {
		cpus: Math.min(Math.max(wanted, 1), availableParallelism(), MOST_CPUS),
		memoryMiB: limit > 0 ? Math.max(Math.ceil(limit / MIB) + KERNEL_MIB, LEAST_MEMORY_MIB) : unlimited,
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
