/*
 * The interface of file systems for virtio-fs devices. `contract.ts` passes these types on to devices.
 *
 * A file system has nodes (files, directories, links) and open files. The device does not look into these objects. It
 * passes a node only between its `lookup` and its `forget`, and a file only while it is open. It forgets or releases
 * neither while a call uses it.
 *
 * An operation returns its answer or a promise of it. It fails by an ErrnoError, or by an error of Node's `fs`. Only
 * `root`, `lookup`, `getattr` and `readdir` are required. For a missing method the device answers EROFS if it would
 * change something, and ENOSYS otherwise. Linux then does without the operation if it can.
 */
import type { Segments } from "../base/segments.ts";
import type { StateObject, StateReader } from "../base/state.ts";

/** An answer that may come later. */
export type Answer<T> = T | Promise<T>;

/**
 * The attributes of a node, as in stat(2). Only the mode is required. The defaults are those of an empty file of root
 * from 1970.
 */
export interface Attributes {
	/** Type (S_IFMT) and permissions: 0o100644. */
	readonly mode: number;
	/** Number of the inode; the device's own number for it when missing. */
	readonly ino?: number | bigint;
	/** In bytes. */
	readonly size?: number;
	/** Allocated room in units of 512 bytes; as much as `size` needs when missing. */
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

/** The changes of a `setattr`. A missing field does not change. */
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
	/** Clears S_ISUID, and S_ISGID if the group may execute: the process that changes the file may not keep them. */
	readonly killSuidGid?: boolean;
}

/** The attributes of a new node. */
export interface NewNode {
	/** Type and permissions, with the guest's umask applied. */
	readonly mode: number;
	/** Its owner. */
	readonly uid: number;
	/** Its group. */
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
	/** The result of `open`, `opendir` or `create`; undefined without them. */
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
	/** The position after this entry: any number but 0, which is the beginning. */
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
	/** True: the device answers all changes with EROFS and does not call the file system. */
	readonly readOnly?: boolean;
	/** For snapshots of a guest that has it mounted; there are none when missing. */
	readonly state?: FileSystemState<N, F>;

	/** The node of that name: the same object each time until it is forgotten. ENOENT when there is none. */
	lookup(parent: N, name: string): Answer<N>;
	/** The guest does not use this node any more. `lookup` may return it again. */
	forget?(node: N): void;
	/** Its attributes; of the open file if the guest has one. */
	getattr(node: N, file?: F): Answer<Attributes>;
	/** Changes attributes; of the open file if the guest has one. */
	setattr?(node: N, changes: AttributeChanges, file?: F): Answer<void>;
	/** Where a symbolic link leads, which the guest follows. */
	readlink?(node: N): Answer<string>;

	/** A symbolic link to `target`, which may be any text. EEXIST when the name is taken, as for all that make a name. */
	symlink?(parent: N, name: string, target: string, how: NewNode): Answer<N>;
	/** A file, FIFO, socket or device node. */
	mknod?(parent: N, name: string, how: NewNode): Answer<N>;
	/** A directory. */
	mkdir?(parent: N, name: string, how: NewNode): Answer<N>;
	/** Removes a name; EISDIR for a directory. An open file stays usable. */
	unlink?(parent: N, name: string): Answer<void>;
	/** Removes an empty directory; ENOTEMPTY for others. */
	rmdir?(parent: N, name: string): Answer<void>;
	/** `flags` as of renameat2(2): RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4. */
	rename?(from: Place<N>, to: Place<N>, flags: number): Answer<void>;
	/** Makes another name for `node`. */
	link?(node: N, to: Place<N>): Answer<void>;

	/** Opens a file. `flags` as in open(2). Not needed by a file system without state of open files. */
	open?(node: N, flags: number, killSuidGid: boolean): Answer<F>;
	/** As mknod and open; with O_EXCL in `flags` only if there is no such name. */
	create?(parent: N, name: string, flags: number, how: NewNode): Answer<Required<OpenFile<N, F>>>;
	/** A file without a name (O_TMPFILE). */
	tmpfile?(directory: N, flags: number, how: NewNode): Answer<Required<OpenFile<N, F>>>;
	/** Opens a directory. Not needed by a file system without state of open directories. */
	opendir?(node: N): Answer<F>;
	/** The file is not used any more. */
	release?(open: OpenFile<N, F>): void;
	/** Fills `into`. Returns the number of bytes, fewer only at the end of the file. */
	read?(open: OpenFile<N, F>, offset: number, into: Segments): Answer<number>;
	/** Writes `from`. Returns the number of bytes written. */
	write?(open: OpenFile<N, F>, offset: number, from: Segments, killSuidGid: boolean): Answer<number>;
	/**
	 * Some entries from `position` on, without "." and ".."; an empty list at the end. The guest takes as many as fit,
	 * and continues at the position of the last one.
	 */
	readdir(open: OpenFile<N, F>, position: bigint): Answer<readonly DirectoryEntry[]>;
	/** One of the guest's descriptors of this file was closed. */
	flush?(open: OpenFile<N, F>): Answer<void>;
	/** Makes written data stable. */
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
	/** Removes an extended attribute. */
	removexattr?(node: N, name: string): Answer<void>;

	/** What statfs(2) says. */
	statfs?(node: N): Answer<FileSystemStatus>;
	/** Makes everything stable. */
	syncfs?(node: N): Answer<void>;
	/** The machine ends. A second call does nothing. */
	close?(): Promise<void>;
}

/**
 * How a snapshot keeps what a guest holds of a file system, and how a restored machine finds it again. The file system may
 * have changed in between. The methods that read check what they get as they would check a guest's request.
 */
export interface FileSystemState<N extends object = object, F extends object = object> {
	/** What leads to a node, which is not the root; undefined for one that has no name any more. */
	saveNode(node: N): StateObject | undefined;
	/** Reads that. @throws SnapshotError ERR_STATE_FORMAT */
	readNode(saved: StateReader): SavedNode<N>;
	/** What it takes to open a file again that the guest has open. Nothing changes the file by being opened again. */
	saveFile(open: OpenFile<N, F>): StateObject;
	/** Reads that. @throws SnapshotError ERR_STATE_FORMAT */
	readFile(saved: StateReader): SavedFile<N, F>;
	/** The name of a node in messages, also of one that has none any more. */
	nameOf(node: N): string;
}

/** A node that a snapshot has. */
export interface SavedNode<N extends object = object> {
	/** Its name in messages. */
	readonly name: string;
	/** The node, as `lookup` gives it. ESTALE when it is another one now, or an errno that says why it cannot be found. */
	find(): Answer<N>;
}

/** An open file that a snapshot has. */
export interface SavedFile<N extends object = object, F extends object = object> {
	/** Opens it. An errno that says why it cannot be opened. */
	open(node: N): Answer<F | undefined>;
}

/** A place in an open file. */
export interface FilePosition<N, F> {
	/** The file. */
	readonly open: OpenFile<N, F>;
	/** In bytes. */
	readonly offset: number;
}
