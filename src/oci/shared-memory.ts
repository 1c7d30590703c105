/*
 * Shared memory, /dev/shm. Callers mount a file system in RAM for it on the host and bind it into each container that may
 * share it. Here it is one in the guest's RAM, of the same size: it belongs to the machine, and its containers bind it.
 */
import { createHash } from "node:crypto";
import { statfsSync, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import type { SetupStep } from "../container/setup-steps.ts";
import { isBind, type Mount } from "./bundle.ts";

/** A machine's shared memory. */
export interface SharedMemory {
	/** What a container's mount of it names on the host. */
	source: string;
	/** In the agent's own root. */
	path: string;
	/** Its limit in bytes; 0 for that of tmpfs, half of RAM. */
	sizeBytes: number;
}

/** statfs(2) */
const TMPFS_MAGIC = 0x01021994;

/**
 * What a container binds to /dev/shm: a "shm" of its caller's. The host's own /dev/shm is none, because who binds that wants
 * the host's files.
 */
export function sharedMemoryOf(mounts: readonly Mount[]): SharedMemory | undefined {
	const mount = mounts.findLast(({ destination }) => destination === "/dev/shm");
	if (mount === undefined || !isBind(mount) || mount.source === undefined) return undefined;
	const sizeBytes = sizeOf(mount.source);
	if (sizeBytes === undefined) return undefined;
	const name = createHash("sha256").update(mount.source).digest("hex").slice(0, 16);
	return { source: mount.source, path: `/run/shm/${name}`, sizeBytes };
}

/** @returns undefined for what is no file system in RAM that is mounted there as a container's */
function sizeOf(source: string): number | undefined {
	try {
		if (basename(source) !== "shm" || source === "/dev/shm") return undefined;
		if (statSync(source).dev === statSync(dirname(source)).dev) return undefined;
		const { type, blocks, bsize } = statfsSync(source);
		return type === TMPFS_MAGIC ? blocks * bsize : undefined;
	} catch {
		/* The mount of it fails with a reason then. */
		return undefined;
	}
}

/** In the agent's own root. */
export function sharedMemorySteps({ path, sizeBytes }: SharedMemory): SetupStep[] {
	return [["mount", ["tmpfs", "shm", path, `nosuid,nodev,noexec,mode=1777,size=${sizeBytes}`].join("\t")]];
}
