/*
 * A node of a file system in memory: its attributes and its content. A name is an entry in its directory's Map.
 */
import { ErrnoError } from "../base/errno-error.ts";
import type { NewNode } from "./contract.ts";

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;

/** A time as file systems have it. */
export interface Time {
	/** Since 1970. */
	readonly seconds: number;
	/** On top. */
	readonly nanoseconds: number;
}

/** The present time. */
export function now(): Time {
	const ms = Date.now();
	return { seconds: Math.floor(ms / 1000), nanoseconds: (ms % 1000) * 1_000_000 };
}

/** A file, directory, link or device of a MemoryFileSystem. */
export class MemoryNode {
	/** Type and permissions. */
	mode: number;
	/** Owner. */
	uid: number;
	/** Group. */
	gid: number;
	/** Of a device node. */
	readonly rdev: number;
	/** Names of it; of a directory, 2 and its subdirectories, or 0 when it was removed. */
	nlink: number;
	/** Of a directory: the one that it is in. */
	parent: MemoryNode | undefined;
	/** Last access. */
	atime = now();
	/** Last change of the data. */
	mtime = this.atime;
	/** Last change of anything. */
	ctime = this.atime;
	/** Of a file: its bytes, and room for more. */
	data = Buffer.alloc(0);
	/** Of a file, in bytes. */
	size = 0;
	/** Of a symbolic link. */
	target = "";
	/** Of a directory, in the order in which they came. */
	readonly children = new Map<string, { node: MemoryNode; position: bigint }>();
	/** Extended attributes. */
	readonly xattrs = new Map<string, Uint8Array>();
	#nextPosition = 1n;

	/** Made by its file system; it has no name yet. */
	constructor({ mode, uid, gid, rdev }: NewNode) {
		this.mode = mode;
		this.uid = uid;
		this.gid = gid;
		this.rdev = rdev;
		this.nlink = this.isDirectory ? 2 : 0;
	}

	/** By its mode. */
	get isDirectory(): boolean {
		return (this.mode & S_IFMT) === S_IFDIR;
	}

	/** By its mode. */
	get isFile(): boolean {
		return (this.mode & S_IFMT) === S_IFREG;
	}

	/** @throws ErrnoError ENOENT, ENOTDIR */
	child(name: string): MemoryNode {
		if (!this.isDirectory) throw ErrnoError.of("ENOTDIR");
		const found = this.children.get(name);
		if (found === undefined) throw ErrnoError.of("ENOENT");
		return found.node;
	}

	/** Gives `node` a name here. Replaces the node that has the name. */
	add(name: string, node: MemoryNode): void {
		this.children.delete(name);
		this.children.set(name, { node, position: this.#nextPosition++ });
		if (node.isDirectory) {
			this.nlink++;
			node.parent = this;
		} else node.nlink++;
		this.#changed(node);
	}

	/** Removes a name. */
	remove(name: string): void {
		const node = this.child(name);
		this.children.delete(name);
		if (node.isDirectory) this.nlink--;
		else node.nlink--;
		this.#changed(node);
	}

	/** Makes a file longer or shorter. New bytes are zeroes. */
	resize(size: number): void {
		if (size > this.data.length) {
			const larger = Buffer.alloc(Math.max(size, Math.min(2 * this.data.length, size + 2 ** 24)));
			this.data.copy(larger, 0, 0, this.size);
			this.data = larger;
		} else if (size < this.size) {
			this.data.fill(0, size, this.size);
		}
		this.size = size;
		this.mtime = this.ctime = now();
	}

	#changed(node: MemoryNode): void {
		this.mtime = this.ctime = node.ctime = now();
	}
}
