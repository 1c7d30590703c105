/*
 * What the machine of a container has: its own one, a pod's, or that of the container that it has joined.
 */
import { findPod } from "../pod/store.ts";
import type { ContainerConfig } from "./config.ts";
import { ContainerStore } from "./store.ts";

export type MachineSize = Pick<ContainerConfig, "cpus" | "memoryMiB">;

/** @throws HostError ERR_POD_NOT_FOUND, ERR_CONTAINER_NOT_FOUND when the other one is gone */
export function machineSize({ cpus, memoryMiB, joins }: MachineSize & Pick<ContainerConfig, "joins">): MachineSize {
	if (joins === undefined) return { cpus, memoryMiB };
	const owner = joins.kind === "pod" ? findPod(joins.id).config : new ContainerStore().find(joins.id).config;
	return { cpus: owner.cpus, memoryMiB: owner.memoryMiB };
}
