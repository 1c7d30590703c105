/*
 * Snapshots as directories: which ones there are, on which ones they are based, and how they are removed.
 */
import { existsSync, realpathSync, statSync } from "node:fs";
import { readdir, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { explain, SnapshotError } from "../base/errors.ts";
import { PAGE_BYTES } from "../base/page-set.ts";
import { type Described, type Manifest, readBase, readManifest } from "./manifest.ts";
import { isWorkingSet } from "./working-set.ts";

/** The files of a container, in a snapshot of its machine. */
export const CONTAINER_FILES = ["container.json", "writable.img"];

/** The files of a snapshot. What makes it one goes first. */
const FILES = ["snapshot.json", "state", "memory", "pages", ...CONTAINER_FILES];

/** Bytes of a snapshot on disk, without those that it is based on. */
export function sizeOf(path: string, { memory, state, base }: Manifest): number {
	const disk = (statSync(join(path, "writable.img"), { throwIfNoEntry: false })?.blocks ?? 0) * 512;
	return memory.usedBytes + state.bytes + disk + (base === undefined ? 0 : memory.bytes / PAGE_BYTES / 8);
}

/** The snapshots in a directory, oldest first. What cannot be read is none. */
export async function listSnapshots(directory: string): Promise<Described[]> {
	const found: Described[] = [];
	for (const name of await readdir(directory)) {
		const path = join(directory, name);
		if (name.startsWith(".") || !existsSync(join(path, "snapshot.json"))) continue;
		const manifest = await readManifest(path).catch(() => undefined);
		if (manifest !== undefined) found.push({ path, manifest });
	}
	return found.sort((a, b) => a.manifest.created.localeCompare(b.manifest.created));
}

/**
 * A snapshot and those that it is based on, down to the one that has all of the memory.
 *
 * @throws SnapshotError ERR_SNAPSHOT_MISSING, ERR_SNAPSHOT_FORMAT, ERR_SNAPSHOT_VERSION, ERR_SNAPSHOT_BASE
 */
export async function readChain(path: string): Promise<Described[]> {
	const chain: Described[] = [];
	let next: Described | undefined = { path, manifest: await readManifest(path) };
	while (next !== undefined) {
		chain.push(next);
		next = await readBase(next);
	}
	return chain;
}

/**
 * Which snapshots in the same directory are based on a snapshot, and are not among `others`.
 *
 * @throws SnapshotError as readManifest
 */
export async function basedOn(path: string, others: readonly string[]): Promise<string[]> {
	await readManifest(path);
	const own = realpathSync(path);
	const excepted = new Set(others.filter((other) => existsSync(other)).map((other) => realpathSync(other)));
	const found: string[] = [];
	for (const one of await listSnapshots(dirname(own))) {
		const base = one.manifest.base === undefined ? undefined : join(one.path, one.manifest.base.path);
		if (base === own && !excepted.has(one.path)) found.push(one.path);
	}
	return found;
}

/**
 * Removes a snapshot. Machines that were restored from it go on.
 *
 * @throws SnapshotError as readManifest for what is none, ERR_SNAPSHOT_REMOVE such as for a directory with other files
 */
export async function removeSnapshot(path: string): Promise<void> {
	await readManifest(path);
	try {
		const advice = (await readdir(path)).filter(isWorkingSet);
		for (const file of [...FILES, ...advice]) await rm(join(path, file), { force: true });
		await rmdir(path);
	} catch (cause) {
		throw new SnapshotError("ERR_SNAPSHOT_REMOVE", `Cannot remove the snapshot ${path}: ${explain(cause)}`, { cause });
	}
}
