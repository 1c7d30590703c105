/*
 * Every error that tsvmm raises on purpose. Each has a stable `code` (docs/errors.md has a paragraph per code, a test
 * compares the two), an optional `hint` (what to do about it), the `cause` it came from, and the exit status that the
 * command line gives it. A message says what was attempted, then what was found: "Cannot open /dev/kvm: permission
 * denied"; no final period.
 */

/** What a TsvmmError may carry besides its message. */
export interface ErrorDetail {
	/** What the user can do, as a command: "Give the guest more memory". No final period. */
	hint?: string | undefined;
	/** What was caught, when another error led to this one. */
	cause?: unknown;
}

/** Base class of all errors that tsvmm raises on purpose. What is caught that is none of these is a defect. */
export class TsvmmError extends Error {
	/** "ERR_KVM_MISSING": stays the same from version to version; docs/errors.md explains each. */
	readonly code: string;
	/** What the user can do about it, if there is something. */
	readonly hint: string | undefined;
	/** What the command line exits with when nobody catches it, 0 to 255. */
	readonly exitStatus: number = 125;

	/** @param message what was attempted and what was found: "Cannot open /dev/kvm: permission denied" */
	constructor(code: string, message: string, detail: ErrorDetail = {}) {
		super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
		this.name = new.target.name;
		this.code = code;
		this.hint = detail.hint;
	}
}

/** The user asked for something that cannot be: a wrong flag, a value out of range. Nothing was done. */
export class UsageError extends TsvmmError {
	override readonly exitStatus = 125;
}

/** The host lacks or refuses something: a device node, a tool, a permission, space. */
export class HostError extends TsvmmError {}

/** A KVM or other ioctl failed (ERR_IOCTL). */
export class IoctlError extends HostError {
	/** Its C name: "KVM_CREATE_VM". */
	readonly ioctl: string;
	/** The errno by name: "EINVAL". */
	readonly errno: string;

	/** @param explanation what the errno means, in words */
	constructor(ioctl: string, errno: string, explanation: string, detail: ErrorDetail = {}) {
		super("ERR_IOCTL", `Cannot ${ioctl}: ${errno} (${explanation})`, detail);
		this.ioctl = ioctl;
		this.errno = errno;
	}
}

/** An image or kernel on disk is not what it claims to be: truncated, malformed, wrong architecture, hash mismatch. */
export class ImageError extends TsvmmError {}

/** The guest ended in a way that is not an orderly power-off (triple fault, KVM internal error, panic), or broke a protocol. */
export class GuestError extends TsvmmError {}

/** Something was asked of an object that is past it, such as a start after the end. Nothing was done. */
export class StateError extends TsvmmError {}

/** A saved state is damaged, of another version, or of something else than what it would be restored to. */
export class SnapshotError extends TsvmmError {}

/** The errno name of a failed system call as Node reports it ("ENOENT"), or undefined. */
export function errnoName(error: unknown): string | undefined {
	return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

const EXPLANATIONS: Record<string, string> = {
	ENOENT: "no such file or directory",
	EACCES: "permission denied",
	EPERM: "operation not permitted",
	EBUSY: "device or resource busy",
	EADDRINUSE: "address already in use",
	ENOSPC: "no space left on device",
	EISDIR: "is a directory",
	ENOTDIR: "not a directory",
	EINVAL: "invalid argument",
	ENOMEM: "out of memory",
	ENODEV: "no such device",
	EROFS: "read-only file system",
	EMFILE: "too many open files",
};

/** "permission denied" for an EACCES from Node, the error's own message for anything else. */
export function explain(error: unknown): string {
	const name = errnoName(error);
	if (name !== undefined && EXPLANATIONS[name] !== undefined) return EXPLANATIONS[name];
	return error instanceof Error ? error.message : String(error);
}

/** For a stream or a process whose "error" is followed by its "close", which is what counts. */
export function ignore(): undefined {
	return undefined;
}
