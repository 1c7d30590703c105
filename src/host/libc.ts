/*
 * The C library's system calls that Node does not offer, through koffi. Loaded at the first call: koffi costs 7 to
 * 30 ms of start-up, which a command without a machine shall not pay.
 */
import { createRequire } from "node:module";
import { constants } from "node:os";
import { join } from "node:path";
import { loadAddon } from "./addon.ts";
import { packageRoot } from "./native.ts";

interface Libc {
	openFile(path: string, flags: number): number;
	closeFd(fd: number): number;
	ioctlBuffer(fd: number, request: number, argument: Uint8Array): number;
	ioctlNumber(fd: number, request: number, argument: number): number;
	fcntlBuffer(fd: number, command: number, argument: Uint8Array): number;
	errno(): number;
}

const require = createRequire(import.meta.url);
let loaded: Libc | undefined;

function libc(): Libc {
	if (loaded !== undefined) return loaded;
	const koffi = (loadAddon(koffiPath()) ?? require("koffi")) as typeof import("koffi");
	const lib = koffi.load(null);
	/* ioctl is variadic in C; on x86-64 and arm64 Linux a pointer or long argument travels as in these prototypes. */
	loaded = {
		openFile: lib.func("int open(const char *path, int flags)"),
		closeFd: lib.func("int close(int fd)"),
		ioctlBuffer: lib.func("ioctl", "int", ["int", "unsigned long", "void *"]),
		ioctlNumber: lib.func("ioctl", "int", ["int", "unsigned long", "unsigned long"]),
		fcntlBuffer: lib.func("fcntl", "int", ["int", "int", "void *"]),
		errno: () => koffi.errno(),
	} as Libc;
	return loaded;
}

/** Where koffi's binary lies in a checkout. What koffi puts around it is for callers of its older versions. */
function koffiPath(): string {
	const platform = `linux-${process.arch}`;
	return join(packageRoot(), "node_modules/@koromix", `koffi-${platform}`, platform.replace("-", "_"), "koffi.node");
}

const NAMES = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]));
/* Aliases: keep the name that man pages use. */
NAMES.set(constants.errno.EAGAIN, "EAGAIN");
NAMES.set(constants.errno.EOPNOTSUPP, "EOPNOTSUPP");

/** The C name of an errno: "EINVAL". */
export function errnoNameOf(errno: number): string {
	return NAMES.get(errno) ?? `errno ${errno}`;
}

const O_CLOEXEC = 0o2000000;

/** open(2), close-on-exec. Returns the fd, or a negative errno. */
export function open(path: string, flags: number): number {
	const fd = libc().openFile(path, flags | O_CLOEXEC);
	return fd < 0 ? -libc().errno() : fd;
}

/** close(2); errors are of no use to anyone and are ignored. */
export function close(fd: number): void {
	libc().closeFd(fd);
}

/** ioctl(2) with a structure, an address as number, or a plain number. Its result, or a negative errno. */
export function ioctl(fd: number, request: number, argument: Uint8Array | number): number {
	const result =
		typeof argument === "number"
			? libc().ioctlNumber(fd, request, argument)
			: libc().ioctlBuffer(fd, request, argument);
	return result < 0 ? -libc().errno() : result;
}

/** fcntl(2) with a structure. Its result, or a negative errno. */
export function fcntl(fd: number, command: number, argument: Uint8Array): number {
	const result = libc().fcntlBuffer(fd, command, argument);
	return result < 0 ? -libc().errno() : result;
}
