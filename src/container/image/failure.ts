/*
 * The errors that several files here raise. The error for a malformed image names the file and the field. The error for
 * a failed write says whether the disk is full.
 */
import { errnoName, explain, HostError, ImageError, TsvmmError } from "../../base/errors.ts";

/** `file` is what was being read ("index.json", "layer sha256:..."), `found` what is wrong with it. */
export function malformed(file: string, found: string, cause?: unknown): ImageError {
	return new ImageError("ERR_IMAGE_MALFORMED", `Cannot read image: ${file}: ${found}`, { cause });
}

/** The error for a path that leads out of the image's root. */
export function escapes(file: string, path: string, found: string): ImageError {
	return new ImageError("ERR_IMAGE_PATH", `Cannot read image: ${file}: ${JSON.stringify(path)} ${found}`, {
		hint: "Do not trust the image: it is damaged or hostile; nothing was written outside the image store",
	});
}

/** Turns a failed write into ERR_STORE_FULL or ERR_STORE_WRITE. Does not change errors of ours. */
export function writeFailure(directory: string, error: unknown): unknown {
	if (error instanceof TsvmmError) return error;
	const errno = errnoName(error);
	if (errno === undefined || !/^E[A-Z]+$/.test(errno)) return error;
	if (errno === "ENOSPC" || errno === "EDQUOT") return storeFull(directory, error);
	return new HostError("ERR_STORE_WRITE", `Cannot write in ${directory}: ${explain(error)}`, { cause: error });
}

export function storeFull(directory: string, cause?: unknown): HostError {
	return new HostError("ERR_STORE_FULL", `Cannot write in ${directory}: no space left on device`, {
		hint: "Remove images with tsvmm image rm, or set TSVMM_CACHE to a directory on a larger disk",
		cause,
	});
}
