/*
 * A lock that several processes share by a file, held by a flock(1) child for as long as its stdin is open: when the
 * holder dies, however it dies, the pipe closes and the kernel gives the lock to the next.
 */
import { spawn } from "node:child_process";
import { HostError } from "../base/errors.ts";
import { findTool, toolMissing } from "./command.ts";

/**
 * Runs `work` while no other process (or call in this one) holds the lock on `path`, a file that is made if need be.
 *
 * @param signal ends the wait for the lock; `work` sees to itself
 * @throws HostError ERR_LOCK; the signal's reason
 */
export async function withFileLock<T>(path: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
	signal?.throwIfAborted();
	const flock = findTool("flock");
	if (flock === undefined) throw toolMissing("flock");
	const holder = spawn(flock, ["--exclusive", path, "sh", "-c", "echo locked; exec cat >/dev/null"], {
		stdio: ["pipe", "pipe", "ignore"],
		// Ctrl-C reaches the terminal's whole group, but the lock is wanted until `work` has cleaned up.
		detached: true,
	});
	const closed = new Promise<void>((resolve) => holder.once("close", () => resolve()));
	holder.stdin.on("error", () => undefined);
	const giveUp = () => void holder.kill();
	signal?.addEventListener("abort", giveUp, { once: true });
	try {
		await new Promise<void>((resolve, reject) => {
			const fail = () =>
				reject(signal?.aborted ? signal.reason : new HostError("ERR_LOCK", `Cannot lock ${path}: flock has failed`));
			holder.once("error", fail);
			holder.once("exit", fail);
			holder.stdout.once("data", () => resolve());
		}).finally(() => signal?.removeEventListener("abort", giveUp));
		return await work();
	} finally {
		holder.stdin.end();
		await closed;
	}
}
