/*
 * What the OCI runtime refuses. Its callers know runc, and find out what went wrong by its words: podman maps
 * "executable file not found" to exit status 127 and "permission denied" to 126. So these messages have runc's words.
 */
import { TsvmmError } from "../base/errors.ts";

export class OciError extends TsvmmError {
	override readonly exitStatus: number;

	/** @param exitStatus of the command; 1 when missing, as in runc */
	constructor(code: string, message: string, { cause, exitStatus = 1 }: { cause?: unknown; exitStatus?: number } = {}) {
		super(code, message, { cause });
		this.exitStatus = exitStatus;
	}
}
