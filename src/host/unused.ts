/*
 * What is in the cache for a version that is no longer there goes when nobody has used it for 30 days. A file's (or
 * directory's) time of modification says when it was last used; what a process has open it keeps all the same.
 */
import { readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { errnoName } from "../base/errors.ts";

const DAY_MS = 24 * 3600_000;
export const KEPT_MS = 30 * DAY_MS;

/** Notes that something in the cache is in use: at most once a day, and not on a read-only file system. */
export async function markUsed(path: string, nowMs = Date.now()): Promise<void> {
	if (nowMs - (await stat(path)).mtimeMs < DAY_MS) return;
	await utimes(path, nowMs / 1000, nowMs / 1000).catch((error: unknown) => {
		if (!["EROFS", "EACCES", "EPERM"].includes(errnoName(error) ?? "")) throw error;
	});
}

/**
 * Removes what has been unused for 30 days.
 *
 * @param mayGo says by name what is of a kind that may go; names that begin with a dot never do
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
