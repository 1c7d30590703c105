/*
 * What a guest holds of a shared directory, as a snapshot keeps it: the path of each node beneath the directory, and the
 * flags of each open file. A restored machine opens the same paths, beneath the directory and without links as always.
 *
 *     save:     node -> /proc/self/fd/N -> path from the directory          as it is at that moment
 *     restore:  path -> openat2 -> the same kind, inode and birth? -> node  else ESTALE
 *
 * Inode numbers are given again, and the time of an inode's birth is not: a file that was removed and made anew is another.
 */
import { ErrnoError } from "../../base/errno-error.ts";
import type { StateObject, StateReader } from "../../base/state.ts";
import type { At, FileCalls } from "../../host/file-calls.ts";
import { close } from "../../host/libc.ts";
import type { FileIdentity } from "../../host/statx.ts";
import { O_ACCMODE, O_DIRECTORY, O_RDONLY, O_TRUNC } from "../../host/syscall-numbers.ts";
import type { FileSystemState, OpenFile, SavedFile, SavedNode } from "../contract.ts";
import type { HostDirectory, HostFile } from "./host-directory.ts";
import type { HostNode, HostNodes } from "./host-nodes.ts";

const S_IFMT = 0o170000;
/** Longest path, and what the kernel puts after one that leads there no more. */
const PATH_MAX = 4095;
const DELETED = " (deleted)";

/** Where a node was, and what it is known by. */
export interface HostPlace {
	/** From the directory. */
	readonly path: string;
	readonly identity: FileIdentity;
}

/** Of the directory whose state this is. */
interface Parts {
	readonly calls: FileCalls;
	readonly nodes: HostNodes;
	readonly only: string | undefined;
}

export class HostDirectoryState implements FileSystemState<HostNode, HostFile> {
	readonly #directory: HostDirectory;
	readonly #calls: FileCalls;
	readonly #nodes: HostNodes;
	/** The only name that there is, where a single file is shared. */
	readonly #only: string | undefined;

	constructor(directory: HostDirectory, { calls, nodes, only }: Parts) {
		this.#directory = directory;
		this.#calls = calls;
		this.#nodes = nodes;
		this.#only = only;
	}

	/** Its path and what it is known by; the root's path is empty. */
	saveNode(node: HostNode): StateObject | undefined {
		const path = this.#pathOf(node);
		if (path === undefined) return undefined;
		const { mode, ino, born } = this.#calls.identityNow(node.fd);
		return { path, type: mode & S_IFMT, ino, born };
	}

	readNode(saved: StateReader): SavedNode<HostNode> {
		const place = readPlace(saved);
		return { name: place.path, find: () => this.find(place) };
	}

	saveFile({ file }: OpenFile<HostNode, HostFile>): StateObject {
		return { flags: file!.flags & ~O_TRUNC };
	}

	readFile(saved: StateReader): SavedFile<HostNode, HostFile> {
		const flags = readFlags(saved);
		return { open: (node) => this.open(node, flags) };
	}

	/** @throws ErrnoError EROFS, and what the host says */
	async open(node: HostNode, flags: number): Promise<HostFile> {
		if ((flags & O_DIRECTORY) !== 0) return await this.#directory.opendir(node);
		if (this.#directory.readOnly && (flags & O_ACCMODE) !== O_RDONLY) throw ErrnoError.of("EROFS");
		return await this.#directory.open(node, flags, false);
	}

	/** @throws ErrnoError ESTALE for another node, or the errno of a path that leads nowhere */
	async find({ path, identity }: HostPlace): Promise<HostNode> {
		const { root } = this.#nodes;
		if (path === "") return root;
		if (this.#only !== undefined && path !== this.#only) throw ErrnoError.of("ESTALE");
		const fd = await this.#calls.openPath({ fd: root.fd, name: path });
		try {
			const found = this.#nodes.isAtHand(root) ? this.#calls.identityNow(fd) : await this.#calls.identity(fd);
			if (!isSame(found, identity)) throw ErrnoError.of("ESTALE");
		} catch (error) {
			close(fd);
			throw error;
		}
		return await this.#nodes.identify(fd, root);
	}

	nameOf(node: HostNode): string {
		return this.#linkOf(node).replace(DELETED, "");
	}

	/** The path beneath the directory by which the node can be found; undefined when none is known. */
	#pathOf(node: HostNode): string | undefined {
		if (node === this.#nodes.root) return "";
		const link = this.#linkOf(node);
		const root = this.#linkOf(this.#nodes.root);
		const prefix = root === "/" ? root : `${root}/`;
		if (!link.startsWith(prefix)) return undefined;
		const path = link.slice(prefix.length);
		/* The last words may be part of the name. */
		return path.endsWith(DELETED) && !this.#leadsTo({ fd: this.#nodes.root.fd, name: path }, node) ? undefined : path;
	}

	/** Empty for a path that is longer than the kernel tells. */
	#linkOf({ fd }: HostNode): string {
		try {
			return this.#calls.pathNow(fd);
		} catch {
			return "";
		}
	}

	#leadsTo(at: At, node: HostNode): boolean {
		try {
			const fd = this.#calls.openPathNow(at);
			try {
				return isSame(this.#calls.identityNow(fd), this.#calls.identityNow(node.fd));
			} finally {
				close(fd);
			}
		} catch {
			return false;
		}
	}
}

/** Reads where a node was. @throws SnapshotError ERR_STATE_FORMAT */
export function readPlace(saved: StateReader): HostPlace {
	const path = saved.string("path", PATH_MAX);
	const mode = saved.integer("type", 0, S_IFMT);
	const identity = { mode, ino: saved.u64("ino"), born: saved.u64("born") };
	if (path !== "" && path.split("/").some((name) => name === "" || name === "." || name === "..")) {
		throw saved.refuse(`its path is ${JSON.stringify(path.slice(0, 64))}`);
	}
	return { path, identity };
}

/** Reads how a file was open. @throws SnapshotError ERR_STATE_FORMAT */
export function readFlags(saved: StateReader): number {
	return saved.u32("flags") & ~O_TRUNC;
}

function isSame(one: FileIdentity, other: FileIdentity): boolean {
	const isSameKind = (one.mode & S_IFMT) === (other.mode & S_IFMT);
	return isSameKind && one.ino === other.ino && one.born === other.born;
}
