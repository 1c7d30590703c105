/*
 * Locks between processes: fcntl(2)'s locks of an open file description (F_OFD_SETLK), on the whole file. The kernel
 * releases a lock when the last descriptor of that description is closed, also when the process is killed. Two
 * descriptions exclude each other within one process as well. QEMU locks its disk images in the same way.
 */
import { type FileHandle, open } from "node:fs/promises";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { explain, HostError } from "../base/errors.ts";
import { struct } from "../base/struct.ts";
import { errnoNameOf, fcntl } from "./libc.ts";

export type LockKind = "shared" | "exclusive";

/** <fcntl.h> */
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
export const flock = struct("flock", { l_type: "s16", l_whence: "s16", l_start: "s64", l_len: "s64", l_pid: "s32" });

/** A wait asks again after 1 ms, then after 2 ms and so on, at most 20 times a second. */
const FIRST_RETRY_MS = 1;
const LAST_RETRY_MS = 50;

/**
 * Locks an open file, or changes the kind of its lock. Never waits. A shared lock needs a readable descriptor, an
 * exclusive lock a writable one.
 *
 * @returns 0, -EAGAIN when another open file has a lock that excludes this one, or another negative errno
 */
export function tryLock(fd: number, kind: LockKind): number {
	/* All other fields are 0, which locks the whole file, even if it grows. */
	const request = new DataView(new ArrayBuffer(flock.sizeof));
	request.setInt16(flock.l_type, kind === "shared" ? F_RDLCK : F_WRLCK, true);
	const result = fcntl(fd, F_OFD_SETLK, new Uint8Array(request.buffer));
	/* POSIX allows a file system either errno. */
	return result === -constants.errno.EACCES ? -constants.errno.EAGAIN : result;
}

/**
 * As tryLock, but every other failure is an error.
 *
 * @param path the open file's, for the message
 * @returns false when another open file has a lock that excludes this one
 * @throws HostError ERR_LOCK
 */
export function tryLockFile(fd: number, kind: LockKind, path: string): boolean {
	const result = tryLock(fd, kind);
	if (result === -constants.errno.EAGAIN) return false;
	if (result < 0) throw new HostError("ERR_LOCK", `Cannot lock ${path}: fcntl failed with ${errnoNameOf(-result)}`);
	return true;
}

/**
 * Whether another open file has a lock on the file. Takes none itself, so nobody who tries at the same time fails for
 * it.
 *
 * @throws HostError ERR_LOCK
 */
export function isLocked(fd: number): boolean {
	const request = new DataView(new ArrayBuffer(flock.sizeof));
	request.setInt16(flock.l_type, F_WRLCK, true);
	const result = fcntl(fd, F_OFD_GETLK, new Uint8Array(request.buffer));
	if (result < 0) throw new HostError("ERR_LOCK", `Cannot look at a lock: fcntl failed with ${errnoNameOf(-result)}`);
	return request.getInt16(flock.l_type, true) !== F_UNLCK;
}

/** An open lock file. The caller closes it, which releases the lock. */
export class FileLock {
	readonly #path: string;
	readonly #file: FileHandle;

	private constructor(path: string, file: FileHandle) {
		this.#path = path;
		this.#file = file;
	}

	/** Opens the lock file, or makes it, without taking the lock. @throws what open(2) says */
	static async open(path: string): Promise<FileLock> {
		return new FileLock(path, await open(path, "a+", 0o644));
	}

	/**
	 * Takes the lock, or changes it to the other kind. Waits for other holders.
	 *
	 * @param signal ends the wait
	 * @throws HostError ERR_LOCK; the signal's reason
	 */
	async take(kind: LockKind, signal?: AbortSignal): Promise<void> {
		signal?.throwIfAborted();
		const isTaken = () => tryLockFile(this.#file.fd, kind, this.#path);
		for (let retryMs = FIRST_RETRY_MS; !isTaken(); retryMs = Math.min(2 * retryMs, LAST_RETRY_MS)) {
			await sleep(retryMs, undefined, { signal }).catch(() => signal?.throwIfAborted());
		}
	}

	/**
	 * Takes the lock exclusively if nobody has it. Never in the lab: the host's files come there by 9p, which does not
	 * show who on the host has locked them.
	 *
	 * @throws HostError ERR_LOCK
	 */
	tryExclusive(): boolean {
		return process.env.TSVMM_LAB !== "1" && tryLockFile(this.#file.fd, "exclusive", this.#path);
	}

	/** Releases the lock. */
	async close(): Promise<void> {
		await this.#file.close();
	}
}

/**
 * Runs `work` while no other process (or call in this one) holds the lock on `path`, a file that is made if need be.
 *
 * @param signal ends the wait for the lock, but not `work`
 * @throws HostError ERR_LOCK; the signal's reason
 */
export async function withFileLock<T>(path: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
	signal?.throwIfAborted();
	const lock = await FileLock.open(path).catch((error: unknown) => {
		throw new HostError("ERR_LOCK", `Cannot lock ${path}: ${explain(error)}`, { cause: error });
	});
	try {
		await lock.take("exclusive", signal);
		return await work();
	} finally {
		await lock.close();
	}
}

/**
 * Runs `work` if nobody holds the lock on `path`.
 *
 * @returns false when somebody does
 */
export async function tryFileLock(path: string, work: () => Promise<void>): Promise<boolean> {
	const lock = await FileLock.open(path);
	try {
		if (!lock.tryExclusive()) return false;
		await work();
		return true;
	} finally {
		await lock.close();
	}
}
