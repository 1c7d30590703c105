/*
 * Starts a container's supervisor as a process of its own: a new one, or that of a machine that waits in a pool.
 */
import { join } from "node:path";
import { launchDetached } from "../../host/detached-process.ts";
import { machinesWait } from "../pool/paths.ts";
import type { StoredContainer } from "./store.ts";

export interface LaunchOptions {
	/** The process waits for somebody to attach. */
	awaitAttach?: boolean;
	/** How long each phase takes is told in its state. */
	timings?: boolean;
	/** Absolute path of a snapshot that the container goes on from. */
	revived?: string;
}

/** A supervisor on its way. */
export interface Launch {
	/** Resolves when the container runs. @throws RemoteError why it does not; HostError ERR_CONTAINER_FAILED */
	readonly running: Promise<void>;
	/** Resolves when the supervisor has the container and listens, if it says so. */
	readonly begun?: Promise<void> | undefined;
}

/** Starts the supervisor of a container. */
export function launchSupervisor(container: StoredContainer, options: LaunchOptions = {}): Launch {
	let onBegun!: () => void;
	const begun = new Promise<void>((resolve) => {
		onBegun = resolve;
	});
	return { running: supervise(container, options, onBegun), begun };
}

async function supervise(
	container: StoredContainer,
	{ awaitAttach = false, timings = false, revived }: LaunchOptions,
	onBegun: () => void,
): Promise<void> {
	if (revived === undefined && machinesWait()) {
		const { takeMachine } = await import("../pool/take.ts");
		if (await takeMachine(container, { awaitAttach, timings }, onBegun)) return;
	}
	await launchDetached({
		words: [
			...["container", "supervise", container.id],
			...(awaitAttach ? ["--await-attach"] : []),
			...(timings ? ["--timings"] : []),
			...(revived === undefined ? [] : ["--revive", revived]),
		],
		log: join(container.paths.directory, "supervisor.log"),
		attempt: "Cannot start the container: its supervisor",
		code: "ERR_CONTAINER_FAILED",
		onBegun,
	});
}
