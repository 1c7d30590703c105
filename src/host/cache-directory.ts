/*
 * Makes directories of the cache (a kernel, a template of the lab) so that each is there whole or not at all:
 *
 *     NAME/files.json    path and size of every file in it, written last: what has been cut short is not taken for whole
 *     .NAME/             one that is being made, by the holder of .NAME.lock
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { errnoName } from "../base/errors.ts";
import * as z from "../base/schema.ts";
import { publish } from "./durable-file.ts";
import { tryFileLock, withFileLock } from "./file-lock.ts";

const FILES = "files.json";
const Sizes = z.record(z.string(), z.number());

/** Temporary directories without a lock are removed at this age. */
const ABANDONED_MS = 3600_000;

/**
 * Makes `directory` unless it is there and whole. If several processes want the same one, one makes it and the others
 * wait. Temporary directories of killed processes are removed.
 *
 * @param fill makes the contents in an empty directory, which is then renamed
 * @param signal ends the wait for another process, but not `fill`
 * @returns true when it was made now
 * @throws what `fill` throws, and nothing is left then; HostError ERR_LOCK; the signal's reason
 */
export async function obtainDirectory(
	directory: string,
	fill: (partial: string) => Promise<void>,
	signal?: AbortSignal,
): Promise<boolean> {
	if (await isWhole(directory)) return false;
	const parent = dirname(directory);
	await mkdir(parent, { recursive: true });
	const make = async () => {
		if (await isWhole(directory)) return false;
		const partial = join(parent, `.${basename(directory)}`);
		await rm(partial, { recursive: true, force: true });
		await mkdir(partial);
		try {
			await fill(partial);
			await writeFile(join(partial, FILES), `${JSON.stringify(await sizesIn(partial), undefined, "\t")}\n`);
			/* A directory that is still there is damaged. */
			await rm(directory, { recursive: true, force: true });
			await publish(partial, directory);
		} finally {
			await rm(partial, { recursive: true, force: true });
		}
		return true;
	};
	const made = await withFileLock(lockOf(directory), make, signal);
	if (made) await removeAbandoned(parent);
	return made;
}

/** True when every file of `directory` is there in its full size. */
export async function isWhole(directory: string): Promise<boolean> {
	try {
		const sizes = Sizes.parse(JSON.parse(await readFile(join(directory, FILES), "utf8")));
		const found = await Promise.all(Object.keys(sizes).map((path) => stat(join(directory, path))));
		return Object.values(sizes).every((size, i) => size === found[i]!.size);
	} catch (error) {
		if (error instanceof SyntaxError || error instanceof z.ZodError || errnoName(error) === "ENOENT") return false;
		throw error;
	}
}

function lockOf(directory: string): string {
	return join(dirname(directory), `.${basename(directory)}.lock`);
}

async function sizesIn(directory: string): Promise<Record<string, number>> {
	const entries = await readdir(directory, { recursive: true, withFileTypes: true });
	const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
	const sizes: Record<string, number> = {};
	for (const path of paths.sort()) sizes[relative(directory, path)] = (await stat(path)).size;
	return sizes;
}

/** Removes the temporary directories in `parent` whose maker is dead. */
async function removeAbandoned(parent: string): Promise<void> {
	for (const entry of await readdir(parent, { withFileTypes: true })) {
		if (!entry.isDirectory() || !entry.name.startsWith(".")) continue;
		const path = join(parent, entry.name);
		const remove = () => rm(path, { recursive: true, force: true });
		if (existsSync(`${path}.lock`)) {
			await tryFileLock(`${path}.lock`, remove);
			continue;
		}
		const found = await stat(path).catch(() => undefined);
		if (found !== undefined && Date.now() - found.mtimeMs > ABANDONED_MS) await remove();
	}
}
