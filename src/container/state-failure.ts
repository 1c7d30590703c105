/*
 * What a failed write in the state directory means. A disk that is full is the usual case, and the user can do something.
 */
import { errnoName, explain, HostError, TsvmmError } from "../base/errors.ts";
import { stateDirectory } from "../host/directories.ts";

/** What a directory is when it cannot be written, besides full. */
const UNWRITABLE: ReadonlySet<string> = new Set(["EACCES", "EIO", "ENOTDIR", "EPERM", "EROFS"]);

/** Turns a failed write into ERR_STATE_FULL or ERR_STATE_WRITE. Does not change other errors. */
export function stateFailure(error: unknown): unknown {
	const errno = errnoName(error instanceof TsvmmError ? error.cause : error);
	if (errno === "ENOSPC" || errno === "EDQUOT") return stateFull(error);
	/* Of a read-only file system, mkdir -p of Node says ENOENT. */
	const isMkdir = errno === "ENOENT" && (error as NodeJS.ErrnoException).syscall === "mkdir";
	const isOther = error instanceof TsvmmError && error.code !== "ERR_LOCK";
	if (errno === undefined || isOther || !(isMkdir || UNWRITABLE.has(errno))) return error;
	return new HostError("ERR_STATE_WRITE", `Cannot write in ${stateDirectory()}: ${explain(error)}`, { cause: error });
}

export function stateFull(cause: unknown): HostError {
	return new HostError("ERR_STATE_FULL", `Cannot write in ${stateDirectory()}: no space left on device`, {
		hint: "Make room with tsvmm system prune, or set TSVMM_STATE to a directory on a larger disk",
		cause,
	});
}

/** Runs work that writes in the state directory. @throws HostError ERR_STATE_FULL, ERR_STATE_WRITE */
export async function writingState<T>(work: () => Promise<T>): Promise<T> {
	try {
		return await work();
	} catch (error) {
		throw stateFailure(error);
	}
}
