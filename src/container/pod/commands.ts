/*
 * What commands do to a pod: start and stop it with all its containers, remove it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { HostError, StateError } from "../../base/errors.ts";
import { removeContainer, startContainer } from "../life/commands.ts";
import { askSupervisor } from "../life/control.ts";
import type { StoredContainer } from "../life/store.ts";
import { startPod } from "./start.ts";
import type { StoredPod } from "./store.ts";

const POLL_MS = 20;
const PATIENCE_MS = 30_000;

export type PodStatus = "Created" | "Running" | "Degraded" | "Paused" | "Exited";

/** In podman's words. "Degraded": not all of its containers run. */
export function podStatus(pod: StoredPod): PodStatus {
	const { status } = pod.state();
	if (status === "created") return "Created";
	if (status !== "running") return "Exited";
	const members = pod.members().map(statusOf);
	if (members.every((one) => one === "running")) return "Running";
	return members.every((one) => one === "paused") ? "Paused" : "Degraded";
}

/** Of a member whose state is damaged nobody knows; the others are told of all the same. */
function statusOf(container: StoredContainer): string {
	try {
		return container.state().status;
	} catch {
		return "unknown";
	}
}

/** Starts the machine and all containers. @throws RemoteError why one does not run */
export async function startWholePod(pod: StoredPod): Promise<void> {
	await startPod(pod);
	for (const container of pod.members().reverse()) await (await startContainer(container))?.running;
}

/** Stops all containers and the machine. @returns false when it did not run */
export async function stopPod(pod: StoredPod, timeoutMs?: number): Promise<boolean> {
	if (!pod.isSupervised()) return false;
	await askSupervisor(pod.paths, { do: "stop", ...(timeoutMs === undefined ? {} : { timeoutMs }) });
	const deadline = performance.now() + PATIENCE_MS;
	while (pod.isSupervised()) {
		if (performance.now() > deadline) {
			throw new HostError("ERR_CONTAINER_FAILED", `Cannot stop pod ${pod.shortId}: its supervisor does not end`);
		}
		await sleep(POLL_MS);
	}
	return true;
}

/** Removes a pod and its containers. @throws StateError ERR_POD_RUNNING unless `force` */
export async function removePod(pod: StoredPod, { force = false } = {}): Promise<void> {
	await pod.exclusively(async () => {
		const running = pod.members().filter((container) => container.isSupervised());
		if (running.length > 0 && !force) {
			throw new StateError(
				"ERR_POD_RUNNING",
				`Cannot remove pod ${pod.shortId}: container ${running[0]!.shortId} runs in it`,
				{ hint: "Stop it first, or remove it with -f" },
			);
		}
		await stopPod(pod, force ? 0 : undefined);
		for (const container of pod.members()) await removeContainer(container, { force, volumes: true });
		await pod.erase();
	});
}
