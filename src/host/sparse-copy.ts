/*
 * Copies of large files with holes, such as disks. Where the file system can, copy and original share their blocks until one
 * of them is written to (reflink), so that a copy takes no time and no room.
 */
import { run } from "./command.ts";

/**
 * @param to must not be there
 * @throws HostError ERR_TOOL_FAILED such as for a disk that is full; the signal's reason
 */
export async function copySparse(from: string, to: string, signal?: AbortSignal): Promise<void> {
	await run("cp", ["--reflink=auto", "--no-clobber", "--", from, to], signal === undefined ? {} : { signal });
}
