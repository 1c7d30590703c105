/*
 * Every error that tsvmm raises on purpose. Each has a stable `code`, an optional `hint`, the `cause` that it came
 * from, and the command line's exit status. docs/errors.md has a paragraph per code, and a test compares the two. A
 * message says what was attempted, then what was found: "Cannot open /dev/kvm: permission denied"; no final period.
 */

/** What a TsvmmError may carry besides its message. */
export interface ErrorDetail {
	/** What the user can do, as a command: "Give the guest more memory". No final period. */
	hint?: string | undefined;
	/** What was caught, when another error led to this one. */
	cause?: unknown;
}

/** Base class of all errors that tsvmm raises on purpose. Any other error is a defect. */
export class TsvmmError extends Error {
	/** "ERR_KVM_MISSING": the same in all versions. docs/errors.md explains each code. */
	readonly code: string;
	/** What the user can do about it, if there is something. */
	readonly hint: string | undefined;
	/** The command line's exit status for it, 0 to 255. */
	readonly exitStatus: number = 125;

	/** @param message what was attempted and what was found: "Cannot open /dev/kvm: permission denied" */
	constructor(code: string, message: string, detail: ErrorDetail = {}) {
		super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
		this.name = new.target.name;
		this.code = code;
		this.hint = detail.hint;
	}
}

/** The user asked for something impossible: a wrong flag, a value out of range. Nothing was done. */
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

/** An image or kernel on disk is bad: truncated, malformed, for another architecture, or with a wrong hash. */
export class ImageError extends TsvmmError {}

/** The guest did not power off in order (triple fault, KVM internal error, panic), or broke a protocol. */
export class GuestError extends TsvmmError {}

/** A call came in the wrong state, such as a start after the end. Nothing was done. */
export class StateError extends TsvmmError {}

/** A saved state is damaged, has another version, or belongs to another kind of object. */
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

/** A listener for "error" of a stream or process whose "close" follows and is handled. */
export function ignore(): undefined {
	return undefined;
}
