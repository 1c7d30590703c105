/*
 * Makes a container of a snapshot: a new one, whose machine goes on where the saved one was.
 *
 *     read and check -> a new container with a copy of the disk -> its supervisor restores the machine
 */
import { rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { copySparse } from "../../host/sparse-copy.ts";
import { readChain } from "../../snapshot/directory.ts";
import { VolumeStore } from "../volume/store.ts";
import { removeContainer, startContainer } from "./commands.ts";
import type { ContainerConfig } from "./config.ts";
import { checkHost, readSavedContainer } from "./saved-container.ts";
import { ContainerStore, type StoredContainer } from "./store.ts";

/**
 * Resolves when the container runs.
 *
 * @param path of the snapshot
 * @param name of the container; a random one when missing
 * @param signal ends it before the container starts
 * @throws SnapshotError for what the snapshot or this host lacks, UsageError ERR_CONTAINER_NAME, HostError
 * ERR_CONTAINER_NAME_IN_USE; why the container does not run. Nothing is left then
 */
export async function reviveFrom(path: string, name?: string, signal?: AbortSignal): Promise<StoredContainer> {
	const saved = await readSavedContainer(path);
	await readChain(path);
	await checkHost(path, saved);
	/* Its trace files are the first container's. */
	const { observed: _, ...config } = saved.config;
	const container = await new ContainerStore().create({ ...config, mounts: borrowed(config.mounts) }, name);
	try {
		await copySparse(join(path, "writable.img"), container.paths.writable, signal);
		signal?.throwIfAborted();
		await (await startContainer(container, { revived: resolve(path) }))?.running;
		return container;
	} catch (error) {
		await removeContainer(container, { force: true }).catch(() => rm(container.paths.directory, { recursive: true }));
		throw error;
	}
}

/** A volume without a name is its first container's, and goes with that. */
function borrowed(mounts: ContainerConfig["mounts"]): ContainerConfig["mounts"] {
	const volumes = new VolumeStore();
	return mounts.map(({ volume, ...mount }) => {
		const isNamed = volume !== undefined && volumes.find(volume).anonymous !== true;
		return isNamed ? { ...mount, volume } : mount;
	});
}
