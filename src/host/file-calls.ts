/*
 * System calls on files, for backends that serve files by descriptors and names and must not wait. Each method is named
 * after its call. A name is one in a directory, and is never followed where it leads somewhere else: openat2 resolves
 * it beneath the directory, without links. What is done to a node itself goes through /proc/self/fd, which leads to the
 * node that the descriptor holds, whatever its names are.
 */
import { constants } from "node:os";
import { ErrnoError } from "../base/errno-error.ts";
import { decodeName } from "../base/file-name.ts";
import { array, struct } from "../base/struct.ts";
import { close, open } from "./libc.ts";
import { type FileIdentity, type FileStatus, parseIdentity, parseStatx, STATX_BYTES } from "./statx.ts";
import * as sys from "./syscall-numbers.ts";
import { type Caller, type CallSlot, DATA_BYTES, Syscalls } from "./syscalls.ts";

export const open_how = struct("open_how", { flags: "u64", mode: "u64", resolve: "u64" });
export const timespec = struct("timespec", { tv_sec: "s64", tv_nsec: "s64" });
export const statfs = struct("statfs", {
	f_type: "s64",
	f_bsize: "s64",
	f_blocks: "u64",
	f_bfree: "u64",
	f_bavail: "u64",
	f_files: "u64",
	f_ffree: "u64",
	f_fsid: "u64",
	f_namelen: "s64",
	f_frsize: "s64",
	f_flags: "s64",
	f_spare: array("s64", 4),
});

const BENEATH = sys.RESOLVE_BENEATH | sys.RESOLVE_NO_SYMLINKS | sys.RESOLVE_NO_MAGICLINKS;
const { EAGAIN, EINVAL } = constants.errno;

/** A name in the directory that a descriptor holds. */
export interface At {
	readonly fd: number;
	readonly name: string;
}

/** How a node is made. */
export interface MakeOptions {
	readonly mode: number;
	readonly rdev?: number;
	/** Whose it is; this process's when missing. */
	readonly as: Caller | undefined;
}

/** A time for utimensat: seconds and nanoseconds, the present one, or as it was. */
export type SetTime = { readonly seconds: number; readonly nanoseconds: number } | "now" | "omit";

export class FileCalls {
	readonly #calls = new Syscalls();
	/** /proc/self/fd of this process. */
	readonly #descriptors: number;
	/** The kernel knows RESOLVE_CACHED (Linux 5.12). */
	#cached = true;

	/** @throws ErrnoError when /proc is not there */
	constructor() {
		this.#descriptors = open("/proc/self/fd", sys.O_PATH | sys.O_DIRECTORY);
		if (this.#descriptors >= 0) return;
		this.#calls.close();
		throw ErrnoError.of(-this.#descriptors);
	}

	/** A descriptor that only names what `at` leads to (O_PATH): at once where the host has it in its cache. */
	openPath(at: At): number | Promise<number> {
		const flags = sys.O_PATH | sys.O_NOFOLLOW | sys.O_CLOEXEC;
		if (this.#cached) {
			const result = this.#calls.openNow((slot) => openat2(slot, at, { flags, resolve: BENEATH | sys.RESOLVE_CACHED }));
			if (result >= 0) return result;
			if (result === -EINVAL) this.#cached = false;
			else if (result !== -EAGAIN) throw ErrnoError.of(-result);
		}
		return this.#calls.performOpen((slot) => openat2(slot, at, { flags, resolve: BENEATH }));
	}

	/** As `openPath`, at once, however long it takes. */
	openPathNow(at: At): number {
		const flags = sys.O_PATH | sys.O_NOFOLLOW | sys.O_CLOEXEC;
		const result = this.#calls.openNow((slot) => openat2(slot, at, { flags, resolve: BENEATH }));
		if (result < 0) throw ErrnoError.of(-result);
		return result;
	}

	/** A descriptor that names the node of another one, by the same means as an O_PATH one of its name. */
	reopenPath(fd: number): number {
		const flags = sys.O_PATH | sys.O_CLOEXEC;
		const { path } = this.#self(fd);
		const result = this.#calls.openNow((slot) => slot.set(sys.SYS_openat, this.#descriptors, slot.path(path), flags));
		if (result < 0) throw ErrnoError.of(-result);
		return result;
	}

	/** Opens the node that a descriptor names. The caller has seen that it is a file or a directory. */
	async reopen(fd: number, flags: number): Promise<number> {
		const { path } = this.#self(fd);
		return await this.#calls.performOpen((slot) =>
			slot.set(sys.SYS_openat, this.#descriptors, slot.path(path), flags | sys.O_CLOEXEC),
		);
	}

	/** Opens the directory that a descriptor names. */
	async reopenDirectory(fd: number): Promise<number> {
		return await this.#calls.performOpen((slot) =>
			slot.set(sys.SYS_openat, fd, slot.path("."), sys.O_DIRECTORY | sys.O_CLOEXEC),
		);
	}

	/** Makes a file and opens it. @throws ErrnoError EEXIST */
	async create(at: At, flags: number, { mode, as }: MakeOptions): Promise<number> {
		const how = { flags: flags | sys.O_CREAT | sys.O_EXCL | sys.O_NOFOLLOW | sys.O_CLOEXEC, mode, resolve: BENEATH };
		return await this.#calls.performOpen((slot) => {
			openat2(slot, at, how);
			slot.as(as);
		});
	}

	/** Makes a file without a name. */
	async tmpfile(directory: number, flags: number, { mode, as }: MakeOptions): Promise<number> {
		return await this.#calls.performOpen((slot) => {
			slot.set(sys.SYS_openat, directory, slot.path("."), flags | sys.O_TMPFILE | sys.O_CLOEXEC, mode);
			slot.as(as);
		});
	}

	/** What stat(2) says, at once: only for file systems of this host, which never wait for it. */
	statNow(fd: number): FileStatus {
		const { result, slot } = this.#calls.now((prepared) => statx(prepared, fd));
		if (result < 0) throw ErrnoError.of(-result);
		return parseStatx(slot.view);
	}

	async stat(fd: number): Promise<FileStatus> {
		return await this.#calls.perform(
			(slot) => statx(slot, fd),
			({ view }) => parseStatx(view),
		);
	}

	/** By what the node is known again, at once. */
	identityNow(fd: number): FileIdentity {
		const { result, slot } = this.#calls.now((prepared) => statx(prepared, fd, sys.STATX_BTIME));
		if (result < 0) throw ErrnoError.of(-result);
		return parseIdentity(slot.view);
	}

	async identity(fd: number): Promise<FileIdentity> {
		return await this.#calls.perform(
			(slot) => statx(slot, fd, sys.STATX_BTIME),
			({ view }) => parseIdentity(view),
		);
	}

	/** The absolute path of the node now, at once; with " (deleted)" after it when that leads to the node no more. */
	pathNow(fd: number): string {
		const { path } = this.#self(fd);
		const { result, slot } = this.#calls.now((prepared) => {
			const [at, to] = [prepared.path(path), prepared.dataAddress];
			prepared.set(sys.SYS_readlinkat, this.#descriptors, at, to, DATA_BYTES);
		});
		if (result < 0) throw ErrnoError.of(-result);
		return decodeName(slot.data.subarray(0, result));
	}

	async mkdirat({ fd, name }: At, { mode, as }: MakeOptions): Promise<void> {
		await this.#calls.perform((slot) => {
			slot.set(sys.SYS_mkdirat, fd, slot.path(name), mode);
			slot.as(as);
		});
	}

	async mknodat({ fd, name }: At, { mode, rdev = 0, as }: MakeOptions): Promise<void> {
		await this.#calls.perform((slot) => {
			slot.set(sys.SYS_mknodat, fd, slot.path(name), mode, rdev);
			slot.as(as);
		});
	}

	async symlinkat(target: string, { fd, name }: At, as: Caller | undefined): Promise<void> {
		await this.#calls.perform((slot) => {
			slot.set(sys.SYS_symlinkat, slot.path(target), fd, slot.path(name, true));
			slot.as(as);
		});
	}

	/** One more name for the node of a descriptor. */
	async linkat(node: number, { fd, name }: At): Promise<void> {
		const { path } = this.#self(node);
		await this.#calls.perform((slot) => {
			const [from, to] = [slot.path(path), slot.path(name, true)];
			slot.set(sys.SYS_linkat, this.#descriptors, from, fd, to, sys.AT_SYMLINK_FOLLOW);
		});
	}

	async unlinkat({ fd, name }: At, flags = 0): Promise<void> {
		await this.#calls.perform((slot) => slot.set(sys.SYS_unlinkat, fd, slot.path(name), flags));
	}

	async renameat2(from: At, to: At, flags: number): Promise<void> {
		await this.#calls.perform((slot) => {
			const [oldPath, newPath] = [slot.path(from.name), slot.path(to.name, true)];
			slot.set(sys.SYS_renameat2, from.fd, oldPath, to.fd, newPath, flags);
		});
	}

	/** Of a symbolic link. */
	async readlinkat(fd: number): Promise<Buffer> {
		return await this.#calls.perform(
			(slot) => slot.set(sys.SYS_readlinkat, fd, slot.path(""), slot.dataAddress, DATA_BYTES),
			({ data }, length) => Buffer.from(data.subarray(0, length)),
		);
	}

	/** Of what is no symbolic link. */
	async fchmodat(fd: number, mode: number): Promise<void> {
		const { path } = this.#self(fd);
		await this.#calls.perform((slot) => slot.set(sys.SYS_fchmodat, this.#descriptors, slot.path(path), mode));
	}

	/** An id of -1 stays as it is. */
	async fchownat(fd: number, uid: number, gid: number): Promise<void> {
		const [owner, group] = [uid >>> 0, gid >>> 0];
		await this.#calls.perform((slot) => slot.set(sys.SYS_fchownat, fd, slot.path(""), owner, group, sys.AT_EMPTY_PATH));
	}

	async utimensat(fd: number, atime: SetTime, mtime: SetTime): Promise<void> {
		await this.#calls.perform((slot) => {
			putTime(slot.view, 0, atime);
			putTime(slot.view, timespec.sizeof, mtime);
			slot.set(sys.SYS_utimensat, fd, slot.path(""), slot.dataAddress, sys.AT_EMPTY_PATH);
		});
	}

	/** Of a file that is open for writing. */
	async ftruncate(fd: number, size: number): Promise<void> {
		await this.#calls.perform((slot) => slot.set(sys.SYS_ftruncate, fd, size));
	}

	/** Of the file that a descriptor names. */
	async truncate(fd: number, size: number): Promise<void> {
		const { absolute } = this.#self(fd);
		await this.#calls.perform((slot) => slot.set(sys.SYS_truncate, slot.path(absolute), size));
	}

	async fsync(fd: number, dataOnly: boolean): Promise<void> {
		await this.#calls.perform((slot) => slot.set(dataOnly ? sys.SYS_fdatasync : sys.SYS_fsync, fd));
	}

	async syncfs(fd: number): Promise<void> {
		await this.#calls.perform((slot) => slot.set(sys.SYS_syncfs, fd));
	}

	async fallocate(
		fd: number,
		{ mode, offset, length }: { mode: number; offset: number; length: number },
	): Promise<void> {
		await this.#calls.perform((slot) => slot.set(sys.SYS_fallocate, fd, mode, offset, length));
	}

	async lseek(fd: number, offset: number | bigint, whence: number): Promise<number> {
		return await this.#calls.perform(
			(slot) => slot.set(sys.SYS_lseek, fd, offset, whence),
			(_, result) => result,
		);
	}

	/** How many bytes it has copied. */
	async copyFileRange(from: OpenAt, to: OpenAt, length: number): Promise<number> {
		return await this.#calls.perform(
			(slot) => {
				slot.view.setBigInt64(0, BigInt(from.offset), true);
				slot.view.setBigInt64(8, BigInt(to.offset), true);
				const [at, toAt] = [slot.dataAddress, slot.dataAddress + 8];
				slot.set(sys.SYS_copy_file_range, from.fd, at, to.fd, toAt, length, 0);
			},
			(_, result) => result,
		);
	}

	/** The next entries of an open directory, as linux_dirent64 has them; empty at the end. */
	async getdents64(fd: number): Promise<Buffer> {
		return await this.#calls.perform(
			(slot) => slot.set(sys.SYS_getdents64, fd, slot.dataAddress, DATA_BYTES),
			({ data }, length) => Buffer.from(data.subarray(0, length)),
		);
	}

	async getxattr(fd: number, name: string): Promise<Buffer> {
		const { absolute } = this.#self(fd);
		return await this.#calls.perform(
			(slot) => getxattr(slot, absolute, name),
			({ data }, length) => Buffer.from(data.subarray(0, length)),
		);
	}

	/** As `getxattr`, at once: where the host has the node's attributes in its memory. */
	getxattrNow(fd: number, name: string): Buffer {
		const { absolute } = this.#self(fd);
		const { result, slot } = this.#calls.now((prepared) => getxattr(prepared, absolute, name));
		if (result < 0) throw ErrnoError.of(-result);
		return Buffer.from(slot.data.subarray(0, result));
	}

	async setxattr(
		fd: number,
		{ name, value, flags }: { name: string; value: Uint8Array; flags: number },
	): Promise<void> {
		const { absolute } = this.#self(fd);
		await this.#calls.perform((slot) => {
			slot.data.set(value);
			const [path, key] = [slot.path(absolute), slot.path(name, true)];
			slot.set(sys.SYS_setxattr, path, key, slot.dataAddress, value.length, flags);
		});
	}

	/** The names, each with its NUL. */
	async listxattr(fd: number): Promise<Buffer> {
		const { absolute } = this.#self(fd);
		return await this.#calls.perform(
			(slot) => slot.set(sys.SYS_listxattr, slot.path(absolute), slot.dataAddress, DATA_BYTES),
			({ data }, length) => Buffer.from(data.subarray(0, length)),
		);
	}

	async removexattr(fd: number, name: string): Promise<void> {
		const { absolute } = this.#self(fd);
		await this.#calls.perform((slot) => slot.set(sys.SYS_removexattr, slot.path(absolute), slot.path(name, true)));
	}

	/** A struct statfs, valid until `take` returns. */
	async fstatfs<T>(fd: number, take: (view: DataView) => T): Promise<T> {
		return await this.#calls.perform(
			(slot) => slot.set(sys.SYS_fstatfs, fd, slot.dataAddress),
			({ view }) => take(view),
		);
	}

	/** Closes a file on a thread, since the host may write it out then. */
	closeLater(fd: number): void {
		this.#calls.closeLater(fd);
	}

	/** What is in flight fails. */
	close(): void {
		this.#calls.close();
		close(this.#descriptors);
	}

	#self(fd: number): { path: string; absolute: string } {
		if (fd < 0) throw ErrnoError.of("EBADF");
		return { path: `${fd}`, absolute: `/proc/self/fd/${fd}` };
	}
}

/** A place in an open file. */
export interface OpenAt {
	readonly fd: number;
	readonly offset: number;
}

function openat2(slot: CallSlot, { fd, name }: At, how: { flags: number; mode?: number; resolve: number }): void {
	slot.view.setBigUint64(open_how.flags, BigInt(how.flags), true);
	slot.view.setBigUint64(open_how.mode, BigInt(how.mode ?? 0), true);
	slot.view.setBigUint64(open_how.resolve, BigInt(how.resolve), true);
	slot.set(sys.SYS_openat2, fd, slot.path(name), slot.dataAddress, open_how.sizeof);
}

function statx(slot: CallSlot, fd: number, more = 0): void {
	slot.data.fill(0, 0, STATX_BYTES);
	slot.set(sys.SYS_statx, fd, slot.path(""), sys.AT_EMPTY_PATH, sys.STATX_BASIC_STATS | more, slot.dataAddress);
}

function getxattr(slot: CallSlot, path: string, name: string): void {
	const [at, key] = [slot.path(path), slot.path(name, true)];
	slot.set(sys.SYS_getxattr, at, key, slot.dataAddress, DATA_BYTES);
}

function putTime(view: DataView, at: number, time: SetTime): void {
	const seconds = typeof time === "string" ? 0 : time.seconds;
	const nanoseconds = time === "now" ? sys.UTIME_NOW : time === "omit" ? sys.UTIME_OMIT : time.nanoseconds;
	view.setBigInt64(at + timespec.tv_sec, BigInt(seconds), true);
	view.setBigInt64(at + timespec.tv_nsec, BigInt(nanoseconds), true);
}
