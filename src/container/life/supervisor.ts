/*
 * The supervisor: the process that owns a container's machine, from `start` until the container has ended. It holds the
 * container's lock, boots the machine, carries the process's output to the log and to attached clients, answers
 * requests, and writes state.json after each change. It ends with the container, or starts it again by its policy.
 *
 *     exec, cp --agent socket--> broker --vsock--> agent            attach --> attach server <-- process's streams
 *     stop, kill, wait --control socket--> supervised container
 */

import { Teardown } from "../../base/teardown.ts";
import { withContainerLock } from "./lock.ts";
import type { PrepareMember } from "./member-devices.ts";
import { type BootContainer, OwnMachine } from "./own-machine.ts";
import type { StoredContainer } from "./store.ts";
import { SupervisedContainer, type WatchOptions } from "./supervised-container.ts";

export interface SuperviseOptions extends WatchOptions {
	/** Makes the container's machine. Tests have machines of their own. */
	boot?: BootContainer;
	/** Prepares that machine for containers that join it; as above. */
	prepare?: PrepareMember;
	/** A snapshot: the container goes on from it, and starts anew from then on. */
	revived?: string | undefined;
}

/**
 * Owns a container until it has ended.
 *
 * @throws HostError ERR_CONTAINER_RUNNING when another process does
 */
export async function superviseContainer(container: StoredContainer, options: SuperviseOptions): Promise<void> {
	const host = new OwnMachine(options.boot, options.prepare, options.revived);
	await withContainerLock(container, async () => {
		const join = (id: string, awaitAttach: boolean) => host.join(id, awaitAttach);
		await using supervised = new SupervisedContainer(container, host, { ...options, join });
		await using _signals = onSignals(() => supervised.stop());
		await supervised.run();
	});
	/* Nobody waits for us any more. */
	await host.prepareTemplate();
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
