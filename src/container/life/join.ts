/*
 * Starts a container in a machine that it joins: a pod's, which is started if need be, or another container's, which has
 * to run. The supervisor of that machine watches the container, too.
 */
import { HostError, StateError } from "../../base/errors.ts";
import { startPod } from "../pod/start.ts";
import { findPod } from "../pod/store.ts";
import type { Joins } from "./config.ts";
import { askSupervisor } from "./control.ts";
import type { Launch, LaunchOptions } from "./launch.ts";
import { ContainerStore, type StoredContainer } from "./store.ts";

/** Asks the supervisor of the machine for it. */
export function launchMember(container: StoredContainer, { awaitAttach = false }: LaunchOptions = {}): Launch {
	return { running: join(container, awaitAttach) };
}

async function join(container: StoredContainer, awaitAttach: boolean): Promise<void> {
	const paths = await machineOf(container, container.config.joins!);
	const answer = await askSupervisor(paths, { do: "join", id: container.id, awaitAttach });
	if (answer !== undefined) return;
	throw new HostError("ERR_CONTAINER_FAILED", "Cannot start the container: the supervisor of its machine has ended");
}

async function machineOf(container: StoredContainer, { kind, id }: Joins): Promise<{ control: string }> {
	if (kind === "pod") {
		const pod = findPod(id);
		await startPod(pod);
		return pod.paths;
	}
	const owner = new ContainerStore().find(id);
	const { status } = owner.state();
	if (status === "running") return owner.paths;
	throw new StateError(
		"ERR_CONTAINER_NOT_RUNNING",
		`Cannot start container ${container.shortId}: container ${owner.shortId}, whose network it joins, is ${status}`,
		{ hint: `Run tsvmm start ${owner.shortId}` },
	);
}
