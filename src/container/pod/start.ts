/*
 * Starts a pod's machine, in a supervisor of its own. Its containers are started in it by life/join.ts.
 */
import { join } from "node:path";
import { launchDetached } from "../../host/detached-process.ts";
import type { StoredPod } from "./store.ts";

/** Resolves when the machine runs; at once when it does. @throws RemoteError why it does not */
export async function startPod(pod: StoredPod): Promise<void> {
	await pod.exclusively(async () => {
		if (pod.isSupervised()) return;
		await launchDetached({
			words: ["pod", "supervise", pod.id],
			log: join(pod.paths.directory, "supervisor.log"),
			attempt: "Cannot start the pod: its supervisor",
			code: "ERR_CONTAINER_FAILED",
		});
	});
}
