/*
 * The containers that have joined a machine, each supervised by the process that owns the machine.
 */
import { StateError } from "../../base/errors.ts";
import type { ContainerHost } from "./container-host.ts";
import { withContainerLock } from "./lock.ts";
import { ContainerStore } from "./store.ts";
import { SupervisedContainer } from "./supervised-container.ts";

export class Members {
	readonly #host: ContainerHost;
	readonly #running = new Map<SupervisedContainer, Promise<void>>();
	#closed = false;

	constructor(host: ContainerHost) {
		this.#host = host;
	}

	/**
	 * Starts a container in the machine. Resolves when it runs.
	 *
	 * @throws why it does not run
	 */
	async join(id: string, awaitAttach: boolean): Promise<void> {
		if (this.#closed) {
			throw new StateError(
				"ERR_CONTAINER_NOT_RUNNING",
				"Cannot start the container: the machine that it joins is ending",
			);
		}
		const container = new ContainerStore().find(id);
		await new Promise<void>((resolve, reject) => {
			const onReady = (error?: unknown) => (error === undefined ? resolve() : reject(error as Error));
			const supervised = new SupervisedContainer(container, this.#host, { awaitAttach, onReady });
			const run = withContainerLock(container, async () => {
				await using watched = supervised;
				await watched.run();
			})
				.catch(onReady)
				.finally(() => this.#running.delete(supervised));
			this.#running.set(supervised, run);
		});
	}

	get isEmpty(): boolean {
		return this.#running.size === 0;
	}

	/** Stops all, and takes no more. Resolves when they have ended. */
	async close(options: { timeoutMs?: number } = {}): Promise<void> {
		this.#closed = true;
		const all = [...this.#running];
		await Promise.all(all.map(([supervised]) => supervised.stop(options).catch(() => undefined)));
		await Promise.all(all.map(([, run]) => run));
	}
}
