/*
 * How a file gets its name so that a power cut leaves it whole or not there. rename(2) alone does not do that: the name
 * may reach the disk before the data, and what then has the name is empty.
 *
 *     write .temporary -> fsync it -> rename to its name -> fsync the directory
 *
 * A name that begins with a dot is a temporary one; whoever reads a directory of the cache passes over it.
 */
import { randomUUID } from "node:crypto";
import { open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** A temporary name for a file that will be called `path`, in the same directory. */
export function temporaryPath(path: string): string {
	return join(dirname(path), `.${basename(path)}.${randomUUID()}`);
}

/**
 * Gives a file or directory that is complete its name. It replaces a file of that name; a directory it replaces only
 * when that is empty.
 *
 * @param temporary on the same file system
 */
export async function publish(temporary: string, path: string): Promise<void> {
	await syncTree(temporary);
	await rename(temporary, path);
	await sync(dirname(path));
}

/**
 * Writes a file, in place of an older one if there is one. Nothing is left of it when that fails.
 *
 * @param temporary where to write first, on the same file system
 */
export async function writeDurably(
	path: string,
	data: string | Uint8Array,
	temporary = temporaryPath(path),
): Promise<void> {
	try {
		const handle = await open(temporary, "wx", 0o644);
		try {
			await handle.writeFile(data);
			await handle.sync();
		} finally {
			await handle.close();
		}
		await rename(temporary, path);
	} finally {
		await rm(temporary, { force: true });
	}
	await sync(dirname(path));
}

/** fsync(2) of a file or directory: for a directory it makes the names in it durable, not what they stand for. */
export async function sync(path: string): Promise<void> {
	const handle = await open(path, "r");
	try {
		await handle.sync();
	} finally {
		await handle.close();
	}
}

/** Syncs a file, or a directory with all that is below it. Links and device nodes are only names. */
async function syncTree(path: string): Promise<void> {
	if ((await stat(path)).isDirectory()) {
		for (const entry of await readdir(path, { withFileTypes: true })) {
			if (entry.isDirectory() || entry.isFile()) await syncTree(join(path, entry.name));
		}
	}
	await sync(path);
}
