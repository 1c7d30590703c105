/*
 * The file of --cidfile: it must not be there, so that one container's ID does not take another's place, and it goes again
 * when no container is made. In the lab the other tsvmm has made it before, because only what is there can be shared.
 */
import { closeSync, lstatSync, openSync, rmSync, statSync, writeSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { errnoName, explain, UsageError } from "../../base/errors.ts";

/**
 * Says what is wrong with the path before any work is done.
 *
 * @throws UsageError ERR_RUN_CIDFILE
 */
export function checkCidFile(path: string): void {
	if (process.env.TSVMM_LAB === "1") return;
	const found = lstatSync(path, { throwIfNoEntry: false });
	if (found?.isDirectory() === true) throw unusable(path, "it is a directory");
	if (found !== undefined) throw unusable(path, THERE);
	const directory = dirname(resolve(path));
	if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) {
		throw unusable(path, `there is no directory ${directory}`);
	}
}

/** Makes the file, and gives `make` a way to write the ID to it. The file goes when that fails. */
export async function withCidFile<T>(path: string, make: (write: (id: string) => void) => Promise<T>): Promise<T> {
	const fd = openFile(path);
	const write = (id: string) => {
		try {
			writeSync(fd, id);
		} catch (error) {
			throw unusable(path, explain(error), error);
		}
	};
	try {
		return await make(write);
	} catch (error) {
		rmSync(path, { force: true });
		throw error;
	} finally {
		closeSync(fd);
	}
}

/** Removes the file that was made for a container in the lab, if no ID came into it. */
export function removeEmptyCidFile(path: string): void {
	if (statSync(path, { throwIfNoEntry: false })?.size === 0) rmSync(path, { force: true });
}

const THERE = "it is there already";

function openFile(path: string): number {
	try {
		return openSync(path, process.env.TSVMM_LAB === "1" ? "w" : "wx", 0o644);
	} catch (error) {
		throw unusable(path, errnoName(error) === "EEXIST" ? THERE : explain(error), error);
	}
}

function unusable(path: string, found: string, cause?: unknown): UsageError {
	return new UsageError("ERR_RUN_CIDFILE", `Cannot write the container's ID to ${path}: ${found}`, {
		hint: found === THERE ? "Remove it, or name another file" : "Name another file",
		cause,
	});
}
