/*
 * The lock of a container or a pod, which its supervisor holds as long as it lives.
 */
import { open } from "node:fs/promises";
import { HostError } from "../../base/errors.ts";
import { tryLockFile } from "../../host/file-lock.ts";

interface Lockable {
	readonly shortId: string;
	readonly paths: { readonly lock: string };
}

/** Runs `work` as the one that supervises it. @throws HostError ERR_CONTAINER_RUNNING when another process does */
export async function withContainerLock(
	{ shortId, paths }: Lockable,
	work: () => Promise<void>,
	what = "container",
): Promise<void> {
	const lock = await open(paths.lock, "r+");
	try {
		if (!tryLockFile(lock.fd, "exclusive", paths.lock)) {
			throw new HostError("ERR_CONTAINER_RUNNING", `Cannot start ${what} ${shortId}: it is running already`);
		}
		await work();
	} finally {
		await lock.close();
	}
}
