/*
 * A task's root file system: what containerd's snapshotter has made, mounted in its bundle.
 */
import { run } from "../host/command.ts";

/** As containerd says it. */
export interface RootfsMount {
	type: string;
	source: string;
	options: string[];
}

/** More than a snapshotter asks for. */
const MOST = 100;

/** Mounts one upon the other; none is left when one fails. @throws what mount(8) says */
export async function mountRootfs(target: string, mounts: readonly RootfsMount[]): Promise<void> {
	try {
		for (const { type, source, options } of mounts) {
			const how = options.length === 0 ? [] : ["-o", options.join()];
			await run("mount", [...(type === "bind" ? [] : ["-t", type]), ...how, source, target]);
		}
	} catch (error) {
		await unmountRootfs(target);
		throw error;
	}
}

/** Until nothing is mounted there any more. */
export async function unmountRootfs(target: string): Promise<void> {
	for (let count = 0; count < MOST; count++) {
		const isMounted = await run("umount", ["-l", target]).then(
			() => true,
			() => false,
		);
		if (!isMounted) return;
	}
}
