/*
 * A directory of the host as a guest's file system. The guest never leaves it: it names nodes that it was given and
 * single names in them, and every step is one that the kernel resolves beneath the node's descriptor, without links
 * (openat2 with RESOLVE_BENEATH). What a symbolic link says is text, which the guest follows by itself. A device node,
 * FIFO or socket is shown and never opened: in the guest it is the guest's own.
 *
 *     lookup: openat2(parent, name, O_PATH) -> statx -> the node that we know, or a new one
 *     open:   openat(/proc/self/fd, "N"), of a node whose type we have seen
 *
 * What may wait for a disk happens on threads (host/syscalls.ts) or in the kernel (host/io-ring.ts).
 */
import { realpathSync, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { type Enter, enterDirectly } from "../../base/enter.ts";
import { ErrnoError } from "../../base/errno-error.ts";
import { errnoName, explain, HostError } from "../../base/errors.ts";
import { decodeName } from "../../base/file-name.ts";
import type { Segments } from "../../base/segments.ts";
import { guestDescriptors } from "../../host/descriptor-budget.ts";
import { type At, FileCalls, statfs } from "../../host/file-calls.ts";
import { close, open } from "../../host/libc.ts";
import * as sys from "../../host/syscall-numbers.ts";
import type { Caller } from "../../host/syscalls.ts";
import type {
	AttributeChanges,
	Attributes,
	DirectoryEntry,
	FilePosition,
	FileSystem,
	FileSystemStatus,
	NewNode,
	NewTime,
	OpenFile,
	Place,
} from "../contract.ts";
import { DirectoryReader } from "./dirents.ts";
import { FileData } from "./file-data.ts";
import { HostDirectoryState } from "./host-directory-state.ts";
import { type HostNode, HostNodes } from "./host-nodes.ts";
import { CAPABILITIES, checkXattr, isShared } from "./xattrs.ts";

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o010;
const PERMISSIONS = 0o7777;
/** Of the guest's open flags: what means the same here. The others are the guest's own business. */
const OPEN_FLAGS = sys.O_ACCMODE | sys.O_APPEND | sys.O_TRUNC | sys.O_DSYNC | sys.O_SYNC;
/** How often a name may come and go while it is opened. */
const ATTEMPTS = 8;

/** An open file or directory. */
export class HostFile {
	readonly fd: number;
	/** As the guest has opened it. */
	readonly flags: number;
	/** Of a directory. */
	readonly reader: DirectoryReader | undefined;

	constructor(fd: number, flags: number, reader?: DirectoryReader) {
		this.fd = fd;
		this.flags = flags;
		this.reader = reader;
	}

	get isWritable(): boolean {
		return (this.flags & sys.O_ACCMODE) !== sys.O_RDONLY;
	}
}

/** What a HostDirectory is made of. */
interface Parts {
	readonly calls: FileCalls;
	readonly nodes: HostNodes;
	readonly rootFd: number;
	readonly only: string | undefined;
}

type Open = OpenFile<HostNode, HostFile>;

/** How a directory is shared. */
export interface HostDirectoryOptions {
	/** The guest cannot change anything; false when missing. */
	readOnly?: boolean;
	/** Never io_uring (for tests). */
	forceThreads?: boolean;
	/** The way into the machine that the directory belongs to. */
	enter?: Enter;
}

/** A directory of the host, or a single file in a directory of its own, as a guest's file system. */
export class HostDirectory implements FileSystem<HostNode, HostFile> {
	readonly readOnly: boolean;
	readonly state: HostDirectoryState;
	/** Of the directory or file. */
	readonly path: string;
	/** The only name in the root, where a single file is shared; what else is in the file's directory is not there. */
	readonly #only: string | undefined;
	readonly #calls: FileCalls;
	readonly #nodes: HostNodes;
	readonly #data: FileData;
	/** Open for what O_PATH does not do. */
	readonly #rootFd: number;
	/** Nodes belong to whom the guest says: only root can do that, for others all is their own. */
	readonly #isRoot = process.geteuid?.() === 0;
	#closed: Promise<void> | undefined;

	private constructor(path: string, parts: Parts, options: HostDirectoryOptions) {
		const { readOnly = false, forceThreads = false, enter = enterDirectly } = options;
		this.path = path;
		this.readOnly = readOnly;
		this.#only = parts.only;
		this.#calls = parts.calls;
		this.#nodes = parts.nodes;
		this.#rootFd = parts.rootFd;
		this.#data = new FileData(`directory ${path}`, enter, forceThreads);
		this.state = new HostDirectoryState(this, parts);
	}

	/**
	 * Opens a directory to share it, or a file, which is then the only one in a directory that does not change.
	 *
	 * @throws HostError ERR_FS_OPEN
	 */
	static async open(path: string, options: HostDirectoryOptions = {}): Promise<HostDirectory> {
		const undo: (() => void)[] = [];
		try {
			const only = statSync(path).isFile() ? basename(realpathSync(path)) : undefined;
			const rootFd = checked(open(only === undefined ? path : dirname(realpathSync(path)), sys.O_DIRECTORY));
			undo.push(() => close(rootFd));
			const calls = new FileCalls();
			undo.push(() => calls.close());
			const fd = calls.reopenPath(rootFd);
			undo.push(() => close(fd));
			const fsType = await calls.fstatfs(fd, (view) => Number(view.getBigInt64(statfs.f_type, true)));
			const nodes = new HostNodes(calls, fd, await calls.stat(fd), fsType);
			/* Tells whether there is openat2. */
			close(await calls.openPath({ fd, name: "." }));
			return new HostDirectory(path, { calls, nodes, rootFd, only }, options);
		} catch (cause) {
			for (const back of undo.reverse()) back();
			const hint = errnoName(cause) === "ENOSYS" ? "Use Linux 5.6 or newer, which has openat2" : undefined;
			throw new HostError("ERR_FS_OPEN", `Cannot share ${path} with a guest: ${explain(cause)}`, { cause, hint });
		}
	}

	get root(): HostNode {
		return this.#nodes.root;
	}

	/** Nodes that the guest holds, the root too. */
	get nodeCount(): number {
		return this.#nodes.size;
	}

	async lookup(parent: HostNode, name: string): Promise<HostNode> {
		if (this.#isSingle(parent) && name !== this.#only) throw ErrnoError.of("ENOENT");
		return await this.#nodes.lookup(parent, name);
	}

	forget(node: HostNode): void {
		this.#nodes.forget(node);
	}

	async getattr(node: HostNode): Promise<Attributes> {
		return this.#nodes.attributes(node, await this.#nodes.status(node));
	}

	async setattr(node: HostNode, changes: AttributeChanges, file?: HostFile): Promise<void> {
		const { mode, uid, gid, size, atime, mtime, killSuidGid = false } = changes;
		if (this.#isSingle(node)) throw ErrnoError.of("EPERM");
		if (mode !== undefined) await this.#calls.fchmodat(node.fd, mode);
		if (uid !== undefined || gid !== undefined) await this.#chown(node, uid, gid);
		if (size !== undefined) {
			if (!node.isFile) throw ErrnoError.of(node.isDirectory ? "EISDIR" : "EINVAL");
			if (file?.isWritable === true) await this.#calls.ftruncate(file.fd, size);
			else await this.#calls.truncate(node.fd, size);
		}
		if (atime !== undefined || mtime !== undefined) await this.#calls.utimensat(node.fd, timeOf(atime), timeOf(mtime));
		if (killSuidGid) await this.#killSuidGid(node);
	}

	async readlink(node: HostNode): Promise<string> {
		if (!node.isLink) throw ErrnoError.of("EINVAL");
		return decodeName(await this.#calls.readlinkat(node.fd));
	}

	async symlink(parent: HostNode, name: string, target: string, how: NewNode): Promise<HostNode> {
		await this.#calls.symlinkat(target, this.#at(parent, name), this.#caller(how));
		return await this.lookup(parent, name);
	}

	/** No device nodes: those of the host would be within the guest's reach. An overlay's whiteout is none. */
	async mknod(parent: HostNode, name: string, how: NewNode): Promise<HostNode> {
		const type = how.mode & S_IFMT;
		if (type === S_IFBLK || (type === S_IFCHR && how.rdev !== 0)) throw ErrnoError.of("EPERM");
		await this.#calls.mknodat(this.#at(parent, name), { mode: how.mode, rdev: how.rdev, as: this.#caller(how) });
		return await this.lookup(parent, name);
	}

	async mkdir(parent: HostNode, name: string, how: NewNode): Promise<HostNode> {
		await this.#calls.mkdirat(this.#at(parent, name), { mode: how.mode & PERMISSIONS, as: this.#caller(how) });
		return await this.lookup(parent, name);
	}

	async unlink(parent: HostNode, name: string): Promise<void> {
		await this.#calls.unlinkat(this.#at(parent, name));
	}

	async rmdir(parent: HostNode, name: string): Promise<void> {
		await this.#calls.unlinkat(this.#at(parent, name), sys.AT_REMOVEDIR);
	}

	async rename(from: Place<HostNode>, to: Place<HostNode>, flags: number): Promise<void> {
		await this.#calls.renameat2(this.#at(from.parent, from.name), this.#at(to.parent, to.name), flags);
	}

	async link(node: HostNode, { parent, name }: Place<HostNode>): Promise<void> {
		await this.#calls.linkat(node.fd, this.#at(parent, name));
	}

	async open(node: HostNode, flags: number, killSuidGid: boolean): Promise<HostFile> {
		if (!node.isFile) throw ErrnoError.of(node.isDirectory ? "EISDIR" : "ENXIO");
		const fd = await this.#calls.reopen(node.fd, flags & OPEN_FLAGS);
		guestDescriptors().hold(fd);
		const file = new HostFile(fd, flags);
		try {
			if (killSuidGid) await this.#killSuidGid(node);
			return file;
		} catch (error) {
			this.release({ node, file });
			throw error;
		}
	}

	/** A name that is taken is opened as the node that it is: never a FIFO or a device that has come in between. */
	async create(parent: HostNode, name: string, flags: number, how: NewNode): Promise<Made> {
		const options = { mode: how.mode & PERMISSIONS, as: this.#caller(how) };
		for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
			const fd = await this.#calls
				.create(this.#at(parent, name), flags & OPEN_FLAGS, options)
				.catch(unless("EEXIST", flags));
			if (fd !== undefined) return await this.#made(parent, fd, flags);
			const node = await this.lookup(parent, name).catch(unless("ENOENT"));
			if (node !== undefined) return { node, file: await this.open(node, flags, false) };
		}
		throw ErrnoError.of("ESTALE");
	}

	async tmpfile(directory: HostNode, flags: number, how: NewNode): Promise<Made> {
		const options = { mode: how.mode & PERMISSIONS, as: this.#caller(how) };
		const fd = await this.#calls.tmpfile(this.#at(directory, "").fd, flags & OPEN_FLAGS, options);
		return await this.#made(directory, fd, flags);
	}

	async opendir(node: HostNode): Promise<HostFile> {
		if (!node.isDirectory) throw ErrnoError.of("ENOTDIR");
		const fd = await this.#calls.reopenDirectory(node.fd);
		guestDescriptors().hold(fd);
		return new HostFile(fd, sys.O_DIRECTORY, new DirectoryReader(this.#calls, fd));
	}

	release({ file }: Open): void {
		if (file === undefined) return;
		this.#calls.closeLater(file.fd);
		guestDescriptors().give();
	}

	async read({ file }: Open, offset: number, into: Segments): Promise<number> {
		return await this.#data.read({ fd: file!.fd, offset, segments: into });
	}

	async write({ node, file }: Open, offset: number, from: Segments, killSuidGid: boolean): Promise<number> {
		const count = await this.#data.write({ fd: file!.fd, offset, segments: from });
		if (killSuidGid) await this.#killSuidGid(node);
		return count;
	}

	async readdir({ node, file }: Open, position: bigint): Promise<readonly DirectoryEntry[]> {
		if (this.#isSingle(node)) return position === 0n ? [{ name: this.#only!, mode: S_IFREG, position: 1n }] : [];
		if (file?.reader === undefined) throw ErrnoError.of("EBADF");
		return await file.reader.read(position);
	}

	async fsync({ file }: Open, dataOnly: boolean): Promise<void> {
		await this.#calls.fsync(file!.fd, dataOnly);
	}

	async fallocate({ file }: Open, range: { mode: number; offset: number; length: number }): Promise<void> {
		await this.#calls.fallocate(file!.fd, range);
	}

	async lseek({ file }: Open, offset: number, whence: number): Promise<number> {
		return await this.#calls.lseek(file!.fd, offset, whence);
	}

	async copyFileRange(
		from: FilePosition<HostNode, HostFile>,
		to: FilePosition<HostNode, HostFile>,
		length: number,
	): Promise<number> {
		const source = { fd: from.open.file!.fd, offset: from.offset };
		return await this.#calls.copyFileRange(source, { fd: to.open.file!.fd, offset: to.offset }, length);
	}

	/** Linux asks for a file's capabilities before its first write and each chown. An inode in memory tells of none. */
	async getxattr(node: HostNode, name: string): Promise<Uint8Array> {
		checkXattr(name);
		if (name === CAPABILITIES && this.#nodes.isAtHand(node)) return this.#calls.getxattrNow(node.fd, name);
		return await this.#calls.getxattr(node.fd, name);
	}

	async setxattr(node: HostNode, name: string, value: Uint8Array, flags: number): Promise<void> {
		checkXattr(name);
		if (this.#isSingle(node)) throw ErrnoError.of("EPERM");
		await this.#calls.setxattr(node.fd, { name, value, flags });
	}

	async listxattr(node: HostNode): Promise<string[]> {
		const names = decodeName(await this.#calls.listxattr(node.fd)).split("\0");
		return names.filter(isShared);
	}

	async removexattr(node: HostNode, name: string): Promise<void> {
		checkXattr(name);
		if (this.#isSingle(node)) throw ErrnoError.of("EPERM");
		await this.#calls.removexattr(node.fd, name);
	}

	async statfs(node: HostNode): Promise<FileSystemStatus> {
		return await this.#calls.fstatfs(node.fd, (view) => {
			const field = (at: number) => Number(view.getBigUint64(at, true));
			return {
				...{ bsize: field(statfs.f_bsize), blocks: field(statfs.f_blocks), bfree: field(statfs.f_bfree) },
				...{ bavail: field(statfs.f_bavail), files: field(statfs.f_files), ffree: field(statfs.f_ffree) },
				namelen: field(statfs.f_namelen),
			};
		});
	}

	async syncfs(): Promise<void> {
		await this.#calls.syncfs(this.#rootFd);
	}

	/** What the guest holds is forgotten. Nothing may be in flight but reads and writes. */
	close(): Promise<void> {
		this.#closed ??= this.#end();
		return this.#closed;
	}

	async #end(): Promise<void> {
		await this.#data.close();
		this.#calls.close();
		this.#nodes.close();
		close(this.#rootFd);
	}

	/** Whether this is the root of a single file, of whose directory the guest sees nothing else. */
	#isSingle(node: HostNode): boolean {
		return this.#only !== undefined && node === this.root;
	}

	/** A name that may come or go. @throws ErrnoError EBUSY where a single file is shared */
	#at(parent: HostNode, name: string): At {
		if (this.#isSingle(parent)) throw ErrnoError.of("EBUSY");
		return { fd: parent.fd, name };
	}

	/** The node of a file that was just made. */
	async #made(parent: HostNode, fd: number, flags: number): Promise<Made> {
		guestDescriptors().hold(fd);
		try {
			return { node: await this.#nodes.identify(this.#calls.reopenPath(fd), parent), file: new HostFile(fd, flags) };
		} catch (error) {
			this.#calls.closeLater(fd);
			guestDescriptors().give();
			throw error;
		}
	}

	/** For others than root, what changes nothing succeeds, as chown(2) has it. */
	async #chown(node: HostNode, uid: number | undefined, gid: number | undefined): Promise<void> {
		const status = await this.#nodes.status(node);
		const same = (uid === undefined || uid === status.uid) && (gid === undefined || gid === status.gid);
		if (!same || this.#isRoot) await this.#calls.fchownat(node.fd, uid ?? -1, gid ?? -1);
	}

	/** As the kernel does for a writer without CAP_FSETID, which we may have. */
	async #killSuidGid(node: HostNode): Promise<void> {
		const { mode } = await this.#nodes.status(node);
		const kept = mode & ~S_ISUID & ((mode & S_IXGRP) === 0 ? ~0 : ~S_ISGID);
		if (kept !== mode) await this.#calls.fchmodat(node.fd, kept & PERMISSIONS);
	}

	/** Whom a call is made as: seven more system calls where that is not this process. */
	#caller({ uid, gid }: NewNode): Caller | undefined {
		const isOwn = uid === 0 && gid === process.getegid?.();
		return this.#isRoot && !isOwn ? { uid, gid } : undefined;
	}
}

type Made = { node: HostNode; file: HostFile };

function timeOf(time: NewTime | undefined) {
	return time ?? "omit";
}

/** For `catch`: undefined for this errno, unless the guest must have a new file. */
function unless(code: "EEXIST" | "ENOENT", flags = 0): (error: unknown) => undefined {
	return (error) => {
		const expected = error === ErrnoError.of(code) && (flags & sys.O_EXCL) === 0;
		if (!expected) throw error;
	};
}

/** @throws ErrnoError for a negative errno */
function checked(result: number): number {
	if (result >= 0) return result;
	throw ErrnoError.of(-result);
}
