/*
 * Whether the faults of a container name devices that its machine will have. It is asked before anything is made or started,
 * so files and interfaces that are not chosen yet are only counted.
 */
import { completeConfig } from "../../machine/config.ts";
import { machineConfig } from "../run.ts";
import type { SystemOptions } from "../setup-steps.ts";
import type { ContainerConfig } from "./config.ts";
import { observation } from "./observed.ts";

/** Stands for a path that nobody opens. */
const LATER = "/";

/**
 * @param shares how many directories of the host it has
 * @throws UsageError ERR_FAULT, which lists what is known
 */
export function checkFaults(
	config: Pick<ContainerConfig, "observed" | "cpus" | "memoryMiB" | "devices" | "network" | "system">,
	shares: number,
): void {
	const { observed, cpus, memoryMiB, devices = [], network, system } = config;
	const machine = machineConfig(
		{
			...(system as SystemOptions),
			...observation(observed),
			rootfs: { path: LATER, fstype: "squashfs" },
			kernel: { name: "", vmlinux: LATER },
			hostname: "",
			...{ cpus, memoryMiB, devices, writable: LATER },
			networks: (network?.attachments ?? []).map(() => ({ device: { kind: "user" } })),
			shares: Array.from({ length: shares }, () => ({ source: LATER, target: LATER })),
		},
		LATER,
	);
	completeConfig(machine);
}
