/*
 * One KVM ioctl: the only place where a failure becomes an IoctlError that names the ioctl and the errno.
 */
import { constants } from "node:os";
import { IoctlError, StateError, UsageError } from "../base/errors.ts";
import { errnoNameOf, ioctl, keep } from "../host/libc.ts";
import { argumentBytes, IOCTL, type IoctlName } from "./ioctls.ts";

const MEANINGS: Record<string, string> = {
	EINVAL: "invalid argument",
	EEXIST: "it exists already",
	ENXIO: "no such thing",
	ENOENT: "no such thing",
	EBUSY: "busy",
	EFAULT: "bad address",
	E2BIG: "too many entries",
	ENOMEM: "out of memory",
	EPERM: "operation not permitted",
	EBADF: "bad file descriptor",
	ENOTTY: "not supported by this kernel",
	ENOSPC: "no room for more",
	EOPNOTSUPP: "not supported by this host",
	EMFILE: "too many open files",
};

/**
 * Issues ioctl `name` on `fd`, again when a signal has interrupted it: KVM_CREATE_VM gives up on any.
 *
 * @param argument a packed structure, or a plain value
 * @returns the ioctl's result, 0 or more
 * @throws IoctlError; UsageError ERR_KVM_ARGUMENT for a structure that is too short
 */
export function call(fd: number, name: IoctlName, argument: Uint8Array | number = 0): number {
	if (typeof argument !== "number") mustHold(name, argument, argumentBytes(name));
	let result: number;
	do result = ioctl(fd, IOCTL[name], argument);
	while (result === -constants.errno.EINTR);
	if (result >= 0) return result;
	const errno = errnoNameOf(-result);
	throw new IoctlError(name, errno, MEANINGS[errno] ?? "see errno(3)");
}

/**
 * KVM reads the structure's full size and does not know the buffer's. After a saved state that was cut short it would
 * read other memory.
 *
 * @throws UsageError ERR_KVM_ARGUMENT
 */
export function mustHold(name: IoctlName, argument: Uint8Array, bytes: number): void {
	if (argument.byteLength >= bytes) return;
	const found = `${argument.byteLength} bytes were given, it takes ${bytes}`;
	throw new UsageError("ERR_KVM_ARGUMENT", `Cannot ${name}: ${found}`);
}

/**
 * A file descriptor of KVM's that is closed once, when this thread ends at the latest. Later its number may belong to
 * another file, even to another VM, so it is not given out any more.
 */
export class KvmFd {
	readonly #what: string;
	#fd: number;

	/** @param what whose it is, for the message: "vCPU 0" */
	constructor(fd: number, what: string) {
		this.#fd = keep(fd);
		this.#what = what;
	}

	/** @throws StateError ERR_KVM_CLOSED */
	get number(): number {
		if (this.#fd < 0) throw new StateError("ERR_KVM_CLOSED", `Cannot use ${this.#what}: it is closed`);
		return this.#fd;
	}

	/** Takes the number to close it; undefined when it was taken before. */
	take(): number | undefined {
		const fd = this.#fd;
		this.#fd = -1;
		return fd < 0 ? undefined : fd;
	}
}
