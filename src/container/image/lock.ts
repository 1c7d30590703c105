/*
 * The image store's lock: shared for those who add (what they add is renamed into place, so they cannot hurt each
 * other), exclusive for those who delete. flock(2) on an open file: the kernel drops it when the holder dies, however
 * it dies. Node has no flock, but the lock belongs to the open file description, so a child that inherits the
 * descriptor (util-linux's flock, essential on Debian) can take it for us and leave.
 */
import { spawn } from "node:child_process";
import { type FileHandle, open } from "node:fs/promises";
import { explain, HostError } from "../../base/errors.ts";
import { findTool, toolMissing } from "../../host/command.ts";

export class StoreLock {
	readonly #file: FileHandle;

	private constructor(file: FileHandle) {
		this.#file = file;
	}

	/** Opens the lock file without taking the lock. */
	static async open(path: string): Promise<StoreLock> {
		return new StoreLock(await open(path, "a", 0o644));
	}

	/** Takes the lock, or changes it to the other kind; waits for other holders. */
	async take(kind: "shared" | "exclusive"): Promise<void> {
		if (!(await this.#flock([kind === "shared" ? "-s" : "-x"]))) {
			throw new HostError("ERR_STORE_LOCK", "Cannot lock the image store: flock refused");
		}
	}

	/** Takes the lock exclusively if nobody has it. */
	tryExclusive(): Promise<boolean> {
		return this.#flock(["-x", "-n"]);
	}

	/** Releases the lock. */
	async close(): Promise<void> {
		await this.#file.close();
	}

	#flock(args: string[]): Promise<boolean> {
		const tool = findTool("flock");
		if (tool === undefined) throw toolMissing("flock");
		return new Promise((resolve, reject) => {
			const child = spawn(tool, [...args, "3"], { stdio: ["ignore", "ignore", "ignore", this.#file.fd] });
			child.once("error", (error) => {
				reject(new HostError("ERR_STORE_LOCK", `Cannot lock the image store: ${explain(error)}`, { cause: error }));
			});
			child.once("exit", (status) => resolve(status === 0));
		});
	}
}
