/*
 * What a virtio-fs device is connected to: a file system. `contract.ts` hands these types on to devices.
 *
 * A file system has nodes (files, directories, links) and open files. Both are objects of its own, which the device
 * never looks into. It calls with a node that was given to the guest and not forgotten since, and with a file that is
 * open. Neither is forgotten nor released while a call uses it.
 *
 * An operation gives its answer or a promise of it. It fails by an ErrnoError, or by an error of Node's `fs`. Only
 * `root`, `lookup`, `getattr` and `readdir` must be there. What is missing is answered as a file system answers that
 * cannot do it: EROFS for changes, ENOSYS for the rest, which Linux then does in another way where it can.
 */
import type { Segments } from "../base/segments.ts";

/** An answer that may come later. */
export type Answer<T> = T | Promise<T>;

/** What stat(2) says of a node. All but the mode may be missing: an empty file of root's from 1970. */
export interface Attributes {
	/** Type (S_IFMT) and permissions: 0o100644. */
	readonly mode: number;
	/** Number of the inode; the device's own number for it when missing. */
	readonly ino?: number | bigint;
	/** In bytes. */
	readonly size?: number;
	/** Room taken, in units of 512 bytes; as much as `size` needs when missing. */
	readonly blocks?: number;
	/** The best size for I/O, in bytes; 4096 when missing. */
	readonly blksize?: number;
	/** Names of it; 1 when missing. */
	readonly nlink?: number;
	/** Owner; root when missing. */
	readonly uid?: number;
	/** Group; root's when missing. */
	readonly gid?: number;
	/** Of a device node. */
	readonly rdev?: number;
	/** Last access, in seconds since 1970. */
	readonly atime?: number;
	/** The nanoseconds that come on top. */
	readonly atimensec?: number;
	/** Last change of the data, in seconds since 1970. */
	readonly mtime?: number;
	/** The nanoseconds that come on top. */
	readonly mtimensec?: number;
	/** Last change of anything, in seconds since 1970. */
	readonly ctime?: number;
	/** The nanoseconds that come on top. */
	readonly ctimensec?: number;
}

/** A time to set: in seconds and nanoseconds, or the present one. */
export type NewTime = { readonly seconds: number; readonly nanoseconds: number } | "now";

/** What `setattr` changes: what is there, and nothing else. */
export interface AttributeChanges {
	/** Permissions, without the type. */
	readonly mode?: number;
	/** Owner. */
	readonly uid?: number;
	/** Group. */
	readonly gid?: number;
	/** In bytes: cut off, or filled up with zeroes. */
	readonly size?: number;
	/** Of the last access. */
	readonly atime?: NewTime;
	/** Of the last change of the data. */
	readonly mtime?: NewTime;
	/** Takes away S_ISUID, and S_ISGID where the group may execute: who changes the file may not keep them. */
	readonly killSuidGid?: boolean;
}

/** How a new node begins. */
export interface NewNode {
	/** Type and permissions; the guest has taken its umask off. */
	readonly mode: number;
	/** Who makes it. */
	readonly uid: number;
	/** The group of who makes it. */
	readonly gid: number;
	/** Of a device node; 0 for all others. */
	readonly rdev: number;
}

/** A name in a directory. */
export interface Place<N> {
	/** The directory. */
	readonly parent: N;
	/** Without a slash, not empty, neither "." nor "..", at most 255 bytes. Bytes that are no UTF-8: see base/file-name.ts. */
	readonly name: string;
}

/** A file or directory that is open. */
export interface OpenFile<N, F> {
	/** Which one. */
	readonly node: N;
	/** What `open`, `opendir` or `create` gave; undefined without them. */
	readonly file: F | undefined;
}

/** A name that `readdir` gives. */
export interface DirectoryEntry {
	/** As of Place. */
	readonly name: string;
	/** Its type, as in `mode`; the permissions do not matter. */
	readonly mode: number;
	/** Number of the inode; unknown when missing. */
	readonly ino?: number | bigint;
	/** Where to go on after this entry: any number but 0, which is the beginning. */
	readonly position: bigint;
}

/** What statfs(2) says. */
export interface FileSystemStatus {
	/** Size of a block in bytes. */
	readonly bsize: number;
	/** Blocks that there are. */
	readonly blocks: number;
	/** Blocks that are free. */
	readonly bfree: number;
	/** Blocks that are free for everybody. */
	readonly bavail: number;
	/** Inodes that there may be. */
	readonly files: number;
	/** Inodes that are free. */
	readonly ffree: number;
	/** Longest name in bytes. */
	readonly namelen: number;
}

/** A file system for a guest: `N` stands for its nodes, `F` for its open files. */
export interface FileSystem<N extends object = object, F extends object = object> {
	/** The directory that the guest mounts. */
	readonly root: N;
	/** All that would change something is answered with EROFS before it comes here. */
	readonly readOnly?: boolean;

	/** The node of that name; the same object each time, as long as it is not forgotten. ENOENT when there is none. */
	lookup(parent: N, name: string): Answer<N>;
	/** The guest holds this node no more. It may come back by `lookup`. */
	forget?(node: N): void;
	/** What stat(2) says of it; by the open file where the guest has one. */
	getattr(node: N, file?: F): Answer<Attributes>;
	/** Changes attributes; by the open file where the guest has one. */
	setattr?(node: N, changes: AttributeChanges, file?: F): Answer<void>;
	/** Where a symbolic link leads, which the guest follows. */
	readlink?(node: N): Answer<string>;

	/** A symbolic link to `target`, which may be any text. EEXIST when the name is taken, as for all that make a name. */
	symlink?(parent: N, name: string, target: string, how: NewNode): Answer<N>;
	/** A file, FIFO, socket or device node. */
	mknod?(parent: N, name: string, how: NewNode): Answer<N>;
	/** A directory. */
	mkdir?(parent: N, name: string, how: NewNode): Answer<N>;
	/** Takes a name away; EISDIR for a directory. A file that is open goes on without. */
	unlink?(parent: N, name: string): Answer<void>;
	/** Removes an empty directory; ENOTEMPTY for others. */
	rmdir?(parent: N, name: string): Answer<void>;
	/** `flags` as of renameat2(2): RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4. */
	rename?(from: Place<N>, to: Place<N>, flags: number): Answer<void>;
	/** One more name for `node`. */
	link?(node: N, to: Place<N>): Answer<void>;

	/** `flags` as of open(2). Without `open` every file is open by itself. */
	open?(node: N, flags: number, killSuidGid: boolean): Answer<F>;
	/** As mknod and open; with O_EXCL in `flags` only if there is no such name. */
	create?(parent: N, name: string, flags: number, how: NewNode): Answer<Required<OpenFile<N, F>>>;
	/** A file without a name (O_TMPFILE). */
	tmpfile?(directory: N, flags: number, how: NewNode): Answer<Required<OpenFile<N, F>>>;
	/** Opens a directory. Without `opendir` every directory is open by itself. */
	opendir?(node: N): Answer<F>;
	/** The file is not used any more. */
	release?(open: OpenFile<N, F>): void;
	/** Fills `into`; how many bytes, fewer only at the end of the file. */
	read?(open: OpenFile<N, F>, offset: number, into: Segments): Answer<number>;
	/** How many bytes it has taken of `from`. */
	write?(open: OpenFile<N, F>, offset: number, from: Segments, killSuidGid: boolean): Answer<number>;
	/**
	 * Some entries from `position` on, without "." and ".."; an empty list at the end. The guest takes what it has room
	 * for and goes on at the position of the last one that it took.
	 */
	readdir(open: OpenFile<N, F>, position: bigint): Answer<readonly DirectoryEntry[]>;
	/** One of the guest's descriptors of this file was closed. */
	flush?(open: OpenFile<N, F>): Answer<void>;
	/** Makes stable what was written. */
	fsync?(open: OpenFile<N, F>, dataOnly: boolean): Answer<void>;
	/** Makes room, or a hole: `range.mode` as of fallocate(2). */
	fallocate?(open: OpenFile<N, F>, range: { mode: number; offset: number; length: number }): Answer<void>;
	/** The next data (`whence` 3) or hole (4) from `offset` on. */
	lseek?(open: OpenFile<N, F>, offset: number, whence: number): Answer<number>;
	/** Copies from one open file to another; how many bytes. */
	copyFileRange?(from: FilePosition<N, F>, to: FilePosition<N, F>, length: number): Answer<number>;

	/** An extended attribute; ENODATA when there is none of this name. */
	getxattr?(node: N, name: string): Answer<Uint8Array>;
	/** Sets an extended attribute. `flags`: XATTR_CREATE 1, XATTR_REPLACE 2. */
	setxattr?(node: N, name: string, value: Uint8Array, flags: number): Answer<void>;
	/** The names of the extended attributes. */
	listxattr?(node: N): Answer<readonly string[]>;
	/** Takes an extended attribute away. */
	removexattr?(node: N, name: string): Answer<void>;

	/** What statfs(2) says. */
	statfs?(node: N): Answer<FileSystemStatus>;
	/** Makes everything stable. */
	syncfs?(node: N): Answer<void>;
	/** The machine ends. A second call does nothing. */
	close?(): Promise<void>;
}

/** A place in an open file. */
export interface FilePosition<N, F> {
	/** The file. */
	readonly open: OpenFile<N, F>;
	/** In bytes. */
	readonly offset: number;
}
