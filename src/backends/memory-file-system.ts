/*
 * A file system in memory, for tests and for files that a program makes for its guest. It ends with the machine.
 */
import { ErrnoError } from "../base/errno-error.ts";
import type { Segments } from "../base/segments.ts";
import type {
	Answer,
	AttributeChanges,
	Attributes,
	DirectoryEntry,
	FileSystem,
	FileSystemStatus,
	NewNode,
	OpenFile,
	Place,
} from "./contract.ts";
import { MemoryNode, now } from "./memory-node.ts";

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_ISGID = 0o2000;
const SUID_SGID = 0o6000;
/* Of open(2). */
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
/* Of renameat2(2). */
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
/* Of setxattr(2). */
const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const BLOCK_BYTES = 4096;
/** The bytes that a name counts for, so that a guest cannot fill memory with empty files. */
const NAME_BYTES = 512;
/** More entries than fit into one answer. */
const ENTRIES_AT_ONCE = 4096;
const DEFAULT_BYTES = 256 * 1024 * 1024;

/** Options of a MemoryFileSystem. */
export interface MemoryFileSystemOptions {
	/** The most bytes that the guest may write; 256 MiB when missing. */
	maxBytes?: number;
	/** The guest cannot write; false when missing. */
	readOnly?: boolean;
}

/** A file system in memory. */
export class MemoryFileSystem implements FileSystem<MemoryNode, object> {
	readonly root = new MemoryNode({ mode: S_IFDIR | 0o755, uid: 0, gid: 0, rdev: 0 });
	readonly readOnly: boolean;
	readonly #maxBytes: number;
	#usedBytes = 0;

	/** An empty one. */
	constructor({ maxBytes = DEFAULT_BYTES, readOnly = false }: MemoryFileSystemOptions = {}) {
		this.#maxBytes = maxBytes;
		this.readOnly = readOnly;
	}

	/** Makes a file with its parent directories, before the guest starts. Returns it. */
	addFile(path: string, data: Uint8Array | string, mode = 0o644): MemoryNode {
		const owner = { uid: 0, gid: 0, rdev: 0 };
		const names = path.split("/").filter((name) => name !== "");
		const last = names.pop();
		if (last === undefined) throw ErrnoError.of("EINVAL");
		let directory = this.root;
		for (const name of names) {
			if (!directory.children.has(name)) directory.add(name, new MemoryNode({ ...owner, mode: S_IFDIR | 0o755 }));
			directory = directory.child(name);
		}
		const file = new MemoryNode({ ...owner, mode: S_IFREG | mode });
		file.data = Buffer.from(data);
		file.size = file.data.length;
		directory.add(last, file);
		return file;
	}

	lookup(parent: MemoryNode, name: string): MemoryNode {
		return parent.child(name);
	}

	/** A node without a name frees its room when the guest does not use it any more. */
	forget(node: MemoryNode): void {
		if (node.nlink > 0) return;
		for (const name of [...node.xattrs.keys()]) this.removexattr(node, name);
		this.#take(-NAME_BYTES - node.data.length);
		node.data = Buffer.alloc(0);
		node.size = 0;
	}

	getattr({ mode, size, nlink, uid, gid, rdev, atime, mtime, ctime }: MemoryNode): Attributes {
		return {
			...{ mode, size, nlink, uid, gid, rdev },
			...{ atime: atime.seconds, atimensec: atime.nanoseconds, mtime: mtime.seconds, mtimensec: mtime.nanoseconds },
			...{ ctime: ctime.seconds, ctimensec: ctime.nanoseconds },
		};
	}

	setattr(node: MemoryNode, { mode, uid, gid, size, atime, mtime, killSuidGid }: AttributeChanges): void {
		if (size !== undefined) this.#resize(node, size);
		if (mode !== undefined) node.mode = (node.mode & S_IFMT) | mode;
		if (uid !== undefined) node.uid = uid;
		if (gid !== undefined) node.gid = gid;
		if (atime !== undefined) node.atime = atime === "now" ? now() : atime;
		if (mtime !== undefined) node.mtime = mtime === "now" ? now() : mtime;
		if (killSuidGid === true) this.#kill(node);
		node.ctime = now();
	}

	readlink({ target }: MemoryNode): string {
		if (target === "") throw ErrnoError.of("EINVAL");
		return target;
	}

	mknod(parent: MemoryNode, name: string, how: NewNode): MemoryNode {
		return this.#make(parent, name, how);
	}

	mkdir(parent: MemoryNode, name: string, how: NewNode): MemoryNode {
		return this.#make(parent, name, how);
	}

	symlink(parent: MemoryNode, name: string, target: string, how: NewNode): MemoryNode {
		const node = this.#make(parent, name, how);
		node.target = target;
		node.size = Buffer.byteLength(target);
		return node;
	}

	link(node: MemoryNode, { parent, name }: Place<MemoryNode>): void {
		if (node.isDirectory) throw ErrnoError.of("EPERM");
		this.#checkNew(parent, name);
		parent.add(name, node);
	}

	unlink(parent: MemoryNode, name: string): void {
		const node = parent.child(name);
		if (node.isDirectory) throw ErrnoError.of("EISDIR");
		parent.remove(name);
	}

	rmdir(parent: MemoryNode, name: string): void {
		const node = parent.child(name);
		if (!node.isDirectory) throw ErrnoError.of("ENOTDIR");
		if (node.children.size > 0) throw ErrnoError.of("ENOTEMPTY");
		parent.remove(name);
		node.nlink = 0;
	}

	rename(from: Place<MemoryNode>, to: Place<MemoryNode>, flags: number): void {
		const node = from.parent.child(from.name);
		const old = to.parent.children.get(to.name)?.node;
		if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0) throw ErrnoError.of("EINVAL");
		if (!to.parent.isDirectory) throw ErrnoError.of("ENOTDIR");
		if (contains(node, to.parent)) throw ErrnoError.of("EINVAL");
		if ((flags & RENAME_EXCHANGE) !== 0) {
			if (old === undefined) throw ErrnoError.of("ENOENT");
			if (contains(old, from.parent)) throw ErrnoError.of("EINVAL");
			from.parent.remove(from.name);
			to.parent.remove(to.name);
			from.parent.add(from.name, old);
			to.parent.add(to.name, node);
			return;
		}
		if (old === node) return;
		if (old !== undefined) {
			if ((flags & RENAME_NOREPLACE) !== 0) throw ErrnoError.of("EEXIST");
			if (old.isDirectory && !node.isDirectory) throw ErrnoError.of("EISDIR");
			if (!old.isDirectory && node.isDirectory) throw ErrnoError.of("ENOTDIR");
			if (old.children.size > 0) throw ErrnoError.of("ENOTEMPTY");
			to.parent.remove(to.name);
			if (old.isDirectory) old.nlink = 0;
		}
		from.parent.remove(from.name);
		to.parent.add(to.name, node);
	}

	open(node: MemoryNode, flags: number, killSuidGid: boolean): MemoryNode {
		if ((flags & O_TRUNC) !== 0) this.#resize(node, 0);
		if (killSuidGid) this.#kill(node);
		return node;
	}

	create(parent: MemoryNode, name: string, flags: number, how: NewNode): { node: MemoryNode; file: object } {
		const old = parent.children.get(name)?.node;
		if (old !== undefined) {
			if ((flags & O_EXCL) !== 0) throw ErrnoError.of("EEXIST");
			if (!old.isFile) throw ErrnoError.of(old.isDirectory ? "EISDIR" : "ENXIO");
		}
		const node = old ?? this.#make(parent, name, how);
		return { node, file: this.open(node, flags, false) };
	}

	read({ node }: OpenFile<MemoryNode, object>, offset: number, into: Segments): Answer<number> {
		if (offset >= node.size) return 0;
		return into.copyFrom(node.data.subarray(offset, node.size));
	}

	write({ node }: OpenFile<MemoryNode, object>, offset: number, from: Segments, killSuidGid: boolean): number {
		if (!node.isFile) throw ErrnoError.of("EBADF");
		const end = offset + from.totalBytes;
		if (end > node.size) this.#resize(node, end);
		from.copyTo(node.data.subarray(offset, end));
		if (killSuidGid) this.#kill(node);
		node.mtime = node.ctime = now();
		return from.totalBytes;
	}

	readdir({ node }: OpenFile<MemoryNode, object>, position: bigint): DirectoryEntry[] {
		const entries: DirectoryEntry[] = [];
		for (const [name, child] of node.children) {
			if (child.position > position) entries.push({ name, mode: child.node.mode, position: child.position });
			if (entries.length === ENTRIES_AT_ONCE) break;
		}
		return entries;
	}

	fsync(): void {
		/* There is nothing more stable. */
	}

	getxattr(node: MemoryNode, name: string): Uint8Array {
		const value = node.xattrs.get(name);
		if (value === undefined) throw ErrnoError.of("ENODATA");
		return value;
	}

	setxattr(node: MemoryNode, name: string, value: Uint8Array, flags: number): void {
		const old = node.xattrs.get(name);
		if (old !== undefined && (flags & XATTR_CREATE) !== 0) throw ErrnoError.of("EEXIST");
		if (old === undefined && (flags & XATTR_REPLACE) !== 0) throw ErrnoError.of("ENODATA");
		this.#take(value.length + NAME_BYTES - (old === undefined ? 0 : old.length + NAME_BYTES));
		node.xattrs.set(name, Uint8Array.from(value));
	}

	listxattr(node: MemoryNode): string[] {
		return [...node.xattrs.keys()];
	}

	removexattr(node: MemoryNode, name: string): void {
		this.#take(-this.getxattr(node, name).length - NAME_BYTES);
		node.xattrs.delete(name);
	}

	statfs(): Answer<FileSystemStatus> {
		const blocks = Math.floor(this.#maxBytes / BLOCK_BYTES);
		const bfree = Math.floor((this.#maxBytes - this.#usedBytes) / BLOCK_BYTES);
		const ffree = Math.floor((this.#maxBytes - this.#usedBytes) / NAME_BYTES);
		const files = Math.floor(this.#maxBytes / NAME_BYTES);
		return { bsize: BLOCK_BYTES, blocks, bfree, bavail: bfree, files, ffree, namelen: 255 };
	}

	#make(parent: MemoryNode, name: string, how: NewNode): MemoryNode {
		this.#checkNew(parent, name);
		this.#take(NAME_BYTES);
		const inherits = (parent.mode & S_ISGID) !== 0;
		const isDirectory = (how.mode & S_IFMT) === S_IFDIR;
		const mode = inherits && isDirectory ? how.mode | S_ISGID : how.mode;
		const node = new MemoryNode({ ...how, mode, gid: inherits ? parent.gid : how.gid });
		parent.add(name, node);
		return node;
	}

	#resize(node: MemoryNode, size: number): void {
		if (!node.isFile) throw ErrnoError.of("EINVAL");
		if (size > this.#maxBytes) throw ErrnoError.of("EFBIG");
		const before = node.data.length;
		this.#take(Math.max(0, size - before));
		node.resize(size);
		this.#usedBytes += node.data.length - before - Math.max(0, size - before);
	}

	#kill(node: MemoryNode): void {
		node.mode &= ~SUID_SGID;
	}

	#checkNew(parent: MemoryNode, name: string): void {
		if (!parent.isDirectory) throw ErrnoError.of("ENOTDIR");
		if (parent.children.has(name)) throw ErrnoError.of("EEXIST");
	}

	/** @throws ErrnoError ENOSPC */
	#take(bytes: number): void {
		if (bytes > 0 && this.#usedBytes + bytes > this.#maxBytes) throw ErrnoError.of("ENOSPC");
		this.#usedBytes += bytes;
	}
}

/** True when `node` is `directory` or above it. */
function contains(node: MemoryNode, directory: MemoryNode): boolean {
	for (let at: MemoryNode | undefined = directory; at !== undefined; at = at.parent) if (at === node) return true;
	return false;
}
