/*
 * Removes files of the cache that were not used for 30 days, such as those of an older version of tsvmm. The
 * modification time of a file or directory says when it was last used. A process keeps the files that it has open.
 */
import { readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { errnoName } from "../base/errors.ts";

const DAY_MS = 24 * 3600_000;
export const KEPT_MS = 30 * DAY_MS;

/** Notes that a file of the cache is in use. Writes at most once a day, and never on a read-only file system. */
export async function markUsed(path: string, nowMs = Date.now()): Promise<void> {
	if (nowMs - (await stat(path)).mtimeMs < DAY_MS) return;
	await utimes(path, nowMs / 1000, nowMs / 1000).catch((error: unknown) => {
		if (!["EROFS", "EACCES", "EPERM"].includes(errnoName(error) ?? "")) throw error;
	});
}

/** Removes what work that was killed has left in a directory: names that begin with a dot, but for the lock that the caller has. */
export async function removeLeftovers(directory: string): Promise<void> {
	for (const name of await readdir(directory))
		if (name.startsWith(".") && name !== ".lock") await rm(join(directory, name), { recursive: true, force: true });
}

/**
 * Removes the files that were not used for 30 days.
 *
 * @param mayGo tells by the name whether a file may be removed; names that begin with a dot never are
 */
export async function removeUnused(
	directory: string,
	mayGo: (name: string) => boolean,
	nowMs = Date.now(),
): Promise<void> {
	for (const name of await readdir(directory)) {
		if (name.startsWith(".") || !mayGo(name)) continue;
		const path = join(directory, name);
		const found = await stat(path).catch(() => undefined);
		if (found !== undefined && nowMs - found.mtimeMs > KEPT_MS) await rm(path, { recursive: true, force: true });
	}
}
