/*
 * System calls that Node does not offer, through koffi and the C library.
 */
import { constants } from "node:os";
import { koffi } from "./koffi.ts";
import { native } from "./native.ts";

interface Libc {
	openFile(path: string, flags: number): number;
	closeFd: { async(fd: number, done: () => void): void };
	ioctlBuffer(fd: number, request: number, argument: Uint8Array): number;
	ioctlNumber(fd: number, request: number, argument: number): number;
	fcntlBuffer(fd: number, command: number, argument: Uint8Array): number;
	fcntlNumber(fd: number, command: number, argument: number): number;
	shutdown(fd: number, how: number): number;
	socketpair(domain: number, type: number, protocol: number, fds: Int32Array): number;
	pipe2(fds: Int32Array, flags: number): number;
	setsockopt(fd: number, level: number, name: number, value: Int32Array, sizeBytes: number): number;
	socket(domain: number, type: number, protocol: number): number;
	connect(fd: number, address: Uint8Array, sizeBytes: number): number;
	bind(fd: number, address: Uint8Array, sizeBytes: number): number;
	sendmsg(fd: number, message: Uint8Array, flags: number): number;
	setns(fd: number, type: number): number;
	memfdCreate(name: string, flags: number): number;
	prlimit(pid: number, resource: number, wanted: BigUint64Array | null, old: BigUint64Array | null): number;
	lseek(fd: number, offset: number, whence: number): number;
	madvise(address: number, bytes: number, advice: number): number;
	dup2(from: number, to: number): number;
	addressOf(buffer: Uint8Array): bigint;
	errno(): number;
}

let loaded: Libc | undefined;

function libc(): Libc {
	if (loaded !== undefined) return loaded;
	const lib = koffi().load(null);
	/* ioctl is variadic in C; on x86-64 and arm64 Linux a pointer or long argument travels as in these prototypes. */
	loaded = {
		openFile: lib.func("int open(const char *path, int flags)"),
		closeFd: lib.func("int close(int fd)"),
		ioctlBuffer: lib.func("ioctl", "int", ["int", "unsigned long", "void *"]),
		ioctlNumber: lib.func("ioctl", "int", ["int", "unsigned long", "unsigned long"]),
		fcntlBuffer: lib.func("fcntl", "int", ["int", "int", "void *"]),
		fcntlNumber: lib.func("fcntl", "int", ["int", "int", "long"]),
		shutdown: lib.func("int shutdown(int fd, int how)"),
		socketpair: lib.func("int socketpair(int domain, int type, int protocol, void *fds)"),
		pipe2: lib.func("int pipe2(void *fds, int flags)"),
		setsockopt: lib.func("int setsockopt(int fd, int level, int name, void *value, uint32_t size)"),
		socket: lib.func("int socket(int domain, int type, int protocol)"),
		connect: lib.func("int connect(int fd, void *address, uint32_t size)"),
		bind: lib.func("int bind(int fd, void *address, uint32_t size)"),
		sendmsg: lib.func("int sendmsg(int fd, void *message, int flags)"),
		setns: lib.func("int setns(int fd, int type)"),
		memfdCreate: lib.func("int memfd_create(const char *name, unsigned int flags)"),
		prlimit: lib.func("int prlimit(int pid, int resource, const void *wanted, void *old)"),
		lseek: lib.func("int64_t lseek(int fd, int64_t offset, int whence)"),
		madvise: lib.func("madvise", "int", ["uintptr_t", "size_t", "int"]),
		dup2: lib.func("int dup2(int from, int to)"),
		addressOf: (buffer: Uint8Array) => koffi().address(buffer),
		errno: () => koffi().errno(),
	} as Libc;
	return loaded;
}

const NAMES = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]));
/* Aliases have the names of the man pages. */
NAMES.set(constants.errno.EAGAIN, "EAGAIN");
NAMES.set(constants.errno.EOPNOTSUPP, "EOPNOTSUPP");

/** The C name of an errno: "EINVAL". */
export function errnoNameOf(errno: number): string {
	return NAMES.get(errno) ?? `errno ${errno}`;
}

const O_CLOEXEC = 0o2000000;
const MFD_CLOEXEC = 1;

/** open(2), close-on-exec. Returns the fd, which the caller closes by `close`, or a negative errno. */
export function open(path: string, flags: number): number {
	const fd = libc().openFile(path, flags | O_CLOEXEC);
	return fd < 0 ? -libc().errno() : keep(fd);
}

/**
 * Lets a descriptor be closed when this thread ends for any reason. Node closes only those that it has opened. `close`
 * and `closeOffThread` take it back. Returns the descriptor.
 */
export function keep(fd: number): number {
	native().fdKeep(fd);
	return fd;
}

/** The address of a buffer, for a structure that points to it. The buffer must live until the call is over. */
export function addressOf(buffer: Uint8Array): bigint {
	return libc().addressOf(buffer);
}

/** close(2). Errors are ignored. */
export function close(fd: number): void {
	native().fdClose(fd);
}

/** As `close`, on a thread of libuv, for a descriptor that takes long to close. Resolves when it is closed. */
export function closeOffThread(fd: number): Promise<void> {
	return new Promise((resolve) => {
		native().fdForget(fd);
		libc().closeFd.async(fd, resolve);
	});
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

const F_DUPFD_CLOEXEC = 1030;

/** Another descriptor of what `fd` is, close-on-exec. The caller closes it by `close`; or a negative errno. */
export function duplicate(fd: number): number {
	const own = libc().fcntlNumber(fd, F_DUPFD_CLOEXEC, 0);
	return own < 0 ? -libc().errno() : keep(own);
}

const SHUT_WR = 1;

/** shutdown(2) of a socket's sending half. An error is ignored: then the other side has gone. */
export function endSending(fd: number): void {
	libc().shutdown(fd, SHUT_WR);
}

const AF_UNIX = 1;
const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SOCKADDR_UN_BYTES = 110;
const CLONE_NEWNET = 0x4000_0000;
const SOL_IP = 0;
const IP_TRANSPARENT = 19;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;

/** A connected pair of unix stream sockets, close-on-exec. Returns both fds, or a negative errno. */
export function socketPair(): [number, number] | number {
	const fds = new Int32Array(2);
	const result = libc().socketpair(AF_UNIX, SOCK_STREAM | O_CLOEXEC, 0, fds);
	return result < 0 ? -libc().errno() : [fds[0]!, fds[1]!];
}

/** A pipe, close-on-exec. Returns the fds for reading and for writing, or a negative errno. */
export function pipe(): [read: number, write: number] | number {
	const fds = new Int32Array(2);
	const result = libc().pipe2(fds, O_CLOEXEC);
	return result < 0 ? -libc().errno() : [fds[0]!, fds[1]!];
}

/** A unix stream socket that is connected to `path`, close-on-exec. The caller closes it; or a negative errno. */
export function connectUnix(path: string): number {
	const fd = libc().socket(AF_UNIX, SOCK_STREAM | O_CLOEXEC, 0);
	if (fd < 0) return -libc().errno();
	const address = new Uint8Array(SOCKADDR_UN_BYTES);
	const name = Buffer.from(path);
	if (name.length >= address.length - 2) {
		close(keep(fd));
		return -constants.errno.ENAMETOOLONG;
	}
	new DataView(address.buffer).setUint16(0, AF_UNIX, true);
	address.set(name, 2);
	if (libc().connect(fd, address, address.length) === 0) return keep(fd);
	const errno = libc().errno();
	close(keep(fd));
	return -errno;
}

/**
 * sendmsg(2) of some bytes with a descriptor (SCM_RIGHTS, unix(7)). 0, or a negative errno.
 *
 * @param bytes at least one
 */
export function sendDescriptor(socket: number, descriptor: number, bytes: Uint8Array): number {
	const control = new DataView(new ArrayBuffer(24));
	control.setBigUint64(0, 20n, true);
	control.setInt32(8, SOL_SOCKET, true);
	control.setInt32(12, SCM_RIGHTS, true);
	control.setInt32(16, descriptor, true);
	const vector = new DataView(new ArrayBuffer(16));
	vector.setBigUint64(0, addressOf(bytes), true);
	vector.setBigUint64(8, BigInt(bytes.length), true);
	const message = new DataView(new ArrayBuffer(56));
	message.setBigUint64(16, addressOf(new Uint8Array(vector.buffer)), true);
	message.setBigUint64(24, 1n, true);
	message.setBigUint64(32, addressOf(new Uint8Array(control.buffer)), true);
	message.setBigUint64(40, 24n, true);
	return libc().sendmsg(socket, new Uint8Array(message.buffer), 0) < 0 ? -libc().errno() : 0;
}

/**
 * A TCP socket at a port of 127.0.0.1 that the kernel chooses. It takes connections to other addresses, too, when a rule
 * gives it those (IP_TRANSPARENT, ip(7)), which needs CAP_NET_ADMIN. The caller passes it on; or a negative errno.
 */
export function transparentSocket(): number {
	const fd = libc().socket(AF_INET, SOCK_STREAM | O_CLOEXEC, 0);
	if (fd < 0) return -libc().errno();
	const on = Int32Array.of(1);
	const address = Uint8Array.of(AF_INET, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0);
	const isBound =
		libc().setsockopt(fd, SOL_IP, IP_TRANSPARENT, on, on.byteLength) === 0 &&
		libc().bind(fd, address, address.length) === 0;
	if (isBound) return fd;
	const errno = libc().errno();
	close(keep(fd));
	return -errno;
}

/** An ioctl of netdevice(7) with its struct ifreq. Its result, or a negative errno. */
export function interfaceIoctl(request: number, ifreq: Uint8Array): number {
	const fd = libc().socket(AF_INET, SOCK_DGRAM | O_CLOEXEC, 0);
	if (fd < 0) return -libc().errno();
	try {
		return ioctl(keep(fd), request, ifreq);
	} finally {
		close(fd);
	}
}

/** setns(2): this thread joins a network namespace. 0, or a negative errno. */
export function joinNetworkNamespace(fd: number): number {
	return libc().setns(fd, CLONE_NEWNET) < 0 ? -libc().errno() : 0;
}

/** memfd_create(2), close-on-exec. Returns the fd, which the caller closes by `close`, or a negative errno. */
export function createMemoryFile(name: string): number {
	const fd = libc().memfdCreate(name, MFD_CLOEXEC);
	return fd < 0 ? -libc().errno() : keep(fd);
}

/** Lets a socket hold so many sent bytes. Without CAP_NET_ADMIN net.core.wmem_max is the limit. */
export function setSendBuffer(fd: number, bytes: number): void {
	const value = Int32Array.of(bytes);
	if (libc().setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, value, value.byteLength) < 0)
		libc().setsockopt(fd, SOL_SOCKET, SO_SNDBUF, value, value.byteLength);
}

/** getrlimit(2) of this process: soft and hard. */
export function getResourceLimit(resource: number): [soft: bigint, hard: bigint] | number {
	const limits = new BigUint64Array(2);
	const result = libc().prlimit(0, resource, null, limits);
	return result < 0 ? -libc().errno() : [limits[0]!, limits[1]!];
}

/** setrlimit(2) of this process. 0, or a negative errno. */
export function setResourceLimit(resource: number, soft: bigint, hard: bigint): number {
	const result = libc().prlimit(0, resource, BigUint64Array.of(soft, hard), null);
	return result < 0 ? -libc().errno() : result;
}

/** dup2(2): `to` is what `from` is. 0, or a negative errno. */
export function replaceDescriptor(from: number, to: number): number {
	return libc().dup2(from, to) < 0 ? -libc().errno() : 0;
}

export const MADV_DONTNEED = 4;
export const MADV_REMOVE = 9;
export const MADV_HUGEPAGE = 14;
export const MADV_NOHUGEPAGE = 15;

/** madvise(2). 0, or a negative errno. */
export function madvise(address: number, bytes: number, advice: number): number {
	return libc().madvise(address, bytes, advice) < 0 ? -libc().errno() : 0;
}

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/**
 * Where the next data of a sparse file begin and end, from `offset` on (lseek(2), SEEK_DATA and SEEK_HOLE). Undefined when
 * only a hole follows, or a negative errno. On a file system without holes all of a file is data.
 */
export function nextData(fd: number, offset: number): [start: number, end: number] | undefined | number {
	const start = libc().lseek(fd, offset, SEEK_DATA);
	const errno = start < 0 ? libc().errno() : 0;
	if (errno === constants.errno.ENXIO) return undefined;
	if (start < 0) return -errno;
	const end = libc().lseek(fd, start, SEEK_HOLE);
	return end < 0 ? -libc().errno() : [start, end];
}
