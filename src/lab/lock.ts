/*
 * The lock of a lab. It belongs to an open file: `lab up` opens and locks the file, the supervisor inherits the
 * descriptor, and QEMU inherits it from the supervisor. The kernel frees the lock when the last of them has ended,
 * however it ends.
 *
 *     lab up: takeLock -- descriptor 3 --> supervisor -- descriptor 5 --> QEMU
 */
import { closeSync, fstatSync, openSync, statSync } from "node:fs";
import { errnoName } from "../base/errors.ts";
import { tryLockFile } from "../host/file-lock.ts";

/**
 * Takes the lock.
 *
 * @returns a descriptor: every process that has it has the lock. Undefined when another process has the lock or removes
 * the file
 * @throws HostError ERR_LOCK; what open(2) says
 */
export function takeLock(path: string): number | undefined {
	const fd = openUnlessGone(path, "a");
	if (fd === undefined) return undefined;
	try {
		/* The last holder may have removed the file after we opened it. A lock on a removed file excludes nobody. */
		if (tryLockFile(fd, "exclusive", path) && isOpenFile(fd, path)) return fd;
	} catch (error) {
		closeSync(fd);
		throw error;
	}
	closeSync(fd);
	return undefined;
}

/** True while a process has the lock. Asks by a shared lock, so several processes can ask at once. */
export function isLocked(path: string): boolean {
	const fd = openUnlessGone(path, "r");
	if (fd === undefined) return false;
	try {
		return !tryLockFile(fd, "shared", path);
	} finally {
		closeSync(fd);
	}
}

/** True when `fd` is open on the file that is at `path` now. */
export function isOpenFile(fd: number, path: string): boolean {
	const named = statSync(path, { throwIfNoEntry: false });
	const open = fstatSync(fd);
	return named?.ino === open.ino && named.dev === open.dev;
}

function openUnlessGone(path: string, flags: "a" | "r"): number | undefined {
	try {
		return openSync(path, flags, 0o600);
	} catch (error) {
		if (errnoName(error) === "ENOENT") return undefined;
		throw error;
	}
}
