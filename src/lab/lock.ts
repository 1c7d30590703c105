/*
 * The lock of a lab, on an open file that is handed on: `lab up` takes it, its supervisor inherits it, QEMU inherits it
 * from the supervisor. The kernel frees it when the last of them has ended, however it ends.
 *
 *     lab up: takeLock -- descriptor 3 --> supervisor -- descriptor 5 --> QEMU
 */
import { closeSync, fstatSync, openSync, statSync } from "node:fs";
import { errnoName } from "../base/errors.ts";
import { tryLockFile } from "../host/file-lock.ts";

/**
 * Takes the lock.
 *
 * @returns a descriptor; whoever has it or inherits it has the lock. Undefined when somebody else has the lock, or is
 * removing the file
 * @throws HostError ERR_LOCK; what open(2) says
 */
export function takeLock(path: string): number | undefined {
	const fd = openUnlessGone(path, "a");
	if (fd === undefined) return undefined;
	try {
		/* Its last holder may have removed the file since it was opened: then the lock says nothing. */
		if (tryLockFile(fd, "exclusive", path) && isOpenFile(fd, path)) return fd;
	} catch (error) {
		closeSync(fd);
		throw error;
	}
	closeSync(fd);
	return undefined;
}

/** True while somebody has the lock. Several processes may ask at once. */
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
