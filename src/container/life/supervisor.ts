/*
 * The supervisor: the process that owns a container's machine, from `start` until the container has ended. It holds the
 * container's lock, boots the machine, carries the process's output to the log and to attached clients, answers
 * requests, and writes state.json after each change. It ends with the container, or starts it again by its policy.
 *
 *     exec, cp --agent socket--> broker --vsock--> agent            attach --> attach server <-- process's streams
 *     stop, kill, wait --control socket--> supervised container
 */

import { open } from "node:fs/promises";
import { HostError } from "../../base/errors.ts";
import { Teardown } from "../../base/teardown.ts";
import { tryLockFile } from "../../host/file-lock.ts";
import { type BootContainer, OwnMachine } from "./own-machine.ts";
import type { StoredContainer } from "./store.ts";
import { SupervisedContainer, type WatchOptions } from "./supervised-container.ts";

export interface SuperviseOptions extends WatchOptions {
	/** Makes the container's machine. Tests have machines of their own. */
	boot?: BootContainer;
}

/**
 * Owns a container until it has ended.
 *
 * @throws HostError ERR_CONTAINER_RUNNING when another process does
 */
export async function superviseContainer(container: StoredContainer, options: SuperviseOptions): Promise<void> {
	await withContainerLock(container, async () => {
		await using supervised = new SupervisedContainer(container, new OwnMachine(options.boot), options);
		await using _signals = onSignals(() => supervised.stop());
		await supervised.run();
	});
}

/** Runs `work` as the one that supervises the container. @throws HostError ERR_CONTAINER_RUNNING when another one does */
export async function withContainerLock(container: StoredContainer, work: () => Promise<void>): Promise<void> {
	const { lock: path } = container.paths;
	const lock = await open(path, "r+");
	try {
		if (!tryLockFile(lock.fd, "exclusive", path)) {
			throw new HostError(
				"ERR_CONTAINER_RUNNING",
				`Cannot start container ${container.shortId}: it is running already`,
			);
		}
		await work();
	} finally {
		await lock.close();
	}
}

/** Calls `stop` when this process is told to end, as by a shutdown of the host. */
export function onSignals(stop: () => Promise<void>): AsyncDisposable {
	const teardown = new Teardown();
	for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
		const handler = () => void stop();
		process.on(name, handler);
		teardown.add(() => void process.off(name, handler));
	}
	return { [Symbol.asyncDispose]: () => teardown.run() };
}
