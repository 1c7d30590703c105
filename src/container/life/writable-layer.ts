/*
 * What a container writes: a sparse file with an ext4 file system, which the guest has as the upper layer of its root.
 * It takes room on the host as the container writes, and gives room back as it deletes (discard). ext4, because it is in
 * every kernel, and because a 64 GiB one is made in a tenth of a second and takes less than 1 MiB.
 */
import { existsSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import { HostError } from "../../base/errors.ts";
import { run } from "../../host/command.ts";
import { publish, temporaryPath } from "../../host/durable-file.ts";
import { stateFailure, stateFull } from "../state-failure.ts";

/** How much a container may write unless it says otherwise. */
export const DEFAULT_WRITABLE_BYTES = 64 * 2 ** 30;
/** mkfs.ext4 needs some room for its journal. */
export const LEAST_WRITABLE_BYTES = 16 * 2 ** 20;

/** The file is all zeroes, so nothing of it need be written but the first superblock and group descriptors. */
const EXTENDED = "assume_storage_prezeroed=1,lazy_journal_init=1,nodiscard,root_owner=0:0";

/**
 * Makes the file, unless it is there.
 *
 * @throws HostError ERR_TOOL_MISSING (e2fsprogs), ERR_TOOL_FAILED, ERR_STATE_FULL
 */
export async function prepareWritableLayer(path: string, sizeBytes: number): Promise<void> {
	if (existsSync(path)) return;
	const temporary = temporaryPath(path);
	try {
		const file = await open(temporary, "wx", 0o600);
		try {
			await file.truncate(sizeBytes - (sizeBytes % 4096));
		} finally {
			await file.close();
		}
		/* No room is kept for root, and none to grow: the container is the only user, and the size stays. */
		await run("mkfs.ext4", ["-q", "-F", "-m", "0", "-O", "^resize_inode", "-E", EXTENDED, temporary]);
		await publish(temporary, path);
	} catch (error) {
		const isFull = error instanceof HostError && /no space left/i.test(error.message);
		throw isFull ? stateFull(error) : stateFailure(error);
	} finally {
		await rm(temporary, { force: true });
	}
}
