/*
 * Locks that processes share by a file. flock(2) on an open file: the kernel drops it when the holder dies, however it
 * dies. Node has no flock, but the lock belongs to the open file description, so a child that inherits the descriptor
 * (util-linux's flock, essential on Debian) can take it for us and leave.
 */
import { spawn } from "node:child_process";
import { type FileHandle, open } from "node:fs/promises";
import { explain, HostError } from "../base/errors.ts";
import { findTool, toolMissing } from "./command.ts";

/** A lock file that is open. The caller closes it, which gives the lock back. */
export class FileLock {
	readonly #path: string;
	readonly #file: FileHandle;

	private constructor(path: string, file: FileHandle) {
		this.#path = path;
		this.#file = file;
	}

	/** Opens the lock file, made if need be, without taking the lock. @throws what open(2) says */
	static async open(path: string): Promise<FileLock> {
		return new FileLock(path, await open(path, "a", 0o644));
	}

	/**
	 * Takes the lock, or changes it to the other kind; waits for other holders.
	 *
	 * @param signal ends the wait
	 * @throws HostError ERR_LOCK; the signal's reason
	 */
	async take(kind: "shared" | "exclusive", signal?: AbortSignal): Promise<void> {
		signal?.throwIfAborted();
		const taken = await this.#flock([kind === "shared" ? "-s" : "-x"], signal);
		signal?.throwIfAborted();
		if (!taken) throw new HostError("ERR_LOCK", `Cannot lock ${this.#path}: flock has failed`);
	}

	/**
	 * Takes the lock exclusively if nobody has it. Never in the lab: the host's files come there by 9p, which does not
	 * show who on the host has locked them.
	 */
	async tryExclusive(): Promise<boolean> {
		return process.env.TSVMM_LAB !== "1" && (await this.#flock(["-x", "-n"]));
	}

	/** Gives the lock back. */
	async close(): Promise<void> {
		await this.#file.close();
	}

	#flock(args: string[], signal?: AbortSignal): Promise<boolean> {
		const tool = findTool("flock");
		if (tool === undefined) throw toolMissing("flock");
		return new Promise((resolve, reject) => {
			/* A group of its own: Ctrl-C is for this process, which may want the lock to clean up. */
			const child = spawn(tool, [...args, "3"], {
				stdio: ["ignore", "ignore", "ignore", this.#file.fd],
				detached: true,
			});
			const giveUp = () => void child.kill();
			signal?.addEventListener("abort", giveUp, { once: true });
			child.once("error", (error) => {
				signal?.removeEventListener("abort", giveUp);
				reject(new HostError("ERR_LOCK", `Cannot lock ${this.#path}: ${explain(error)}`, { cause: error }));
			});
			child.once("exit", (status) => {
				signal?.removeEventListener("abort", giveUp);
				resolve(status === 0);
			});
		});
	}
}

/**
 * Runs `work` while no other process (or call in this one) holds the lock on `path`, a file that is made if need be.
 *
 * @param signal ends the wait for the lock; `work` sees to itself
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
		if (!(await lock.tryExclusive())) return false;
		await work();
		return true;
	} finally {
		await lock.close();
	}
}
