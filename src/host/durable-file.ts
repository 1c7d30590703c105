/*
 * Gives a file its name so that after a power cut it is whole or not there. rename(2) alone is not enough: the name may
 * reach the disk before the data, and then the file is empty.
 *
 *     write .temporary -> fsync it -> rename to its name -> fsync the directory
 *
 * A name that begins with a dot is temporary. Readers of the cache's directories skip it.
 */
import { randomUUID } from "node:crypto";
import { open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** A temporary name for a file that will be called `path`, in the same directory. */
export function temporaryPath(path: string): string {
	return join(dirname(path), `.${basename(path)}.${randomUUID()}`);
}

/**
 * Gives a complete file or directory its name. It replaces a file of that name, and an empty directory.
 *
 * @param temporary on the same file system
 */
export async function publish(temporary: string, path: string): Promise<void> {
	await syncTree(temporary);
	await rename(temporary, path);
	await sync(dirname(path));
}

/**
 * Writes a file, or replaces one. A failure leaves nothing of it.
 *
 * @param temporary where to write first, on the same file system
 * @param mode of the file, also when it replaces one of another mode
 */
export async function writeDurably(
	path: string,
	data: string | Uint8Array,
	temporary = temporaryPath(path),
	mode = 0o644,
): Promise<void> {
	try {
		const handle = await open(temporary, "wx", mode);
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

/** fsync(2) of a file or directory. For a directory it makes the names durable, but not the files. */
export async function sync(path: string): Promise<void> {
	const handle = await open(path, "r");
	try {
		await handle.sync();
	} finally {
		await handle.close();
	}
}

/** Syncs a file, or a directory with all below it. Links and device nodes are only names. */
async function syncTree(path: string): Promise<void> {
	if ((await stat(path)).isDirectory()) {
		for (const entry of await readdir(path, { withFileTypes: true })) {
			if (entry.isDirectory() || entry.isFile()) await syncTree(join(path, entry.name));
		}
	}
	await sync(path);
}
