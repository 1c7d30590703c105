/*
 * The nodes of a shared directory that a guest holds, each by a descriptor that only names it (O_PATH). A descriptor
 * holds the node itself: whatever becomes of its names, nobody else's file takes its place.
 */
import { ErrnoError } from "../../base/errno-error.ts";
import { guestDescriptors } from "../../host/descriptor-budget.ts";
import type { FileCalls } from "../../host/file-calls.ts";
import { close } from "../../host/libc.ts";
import type { FileStatus } from "../../host/statx.ts";
import type { Attributes } from "../contract.ts";

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
/** Where the number of a file system is put into inode numbers, so that those of two do not meet. */
const DEVICE_SHIFT = 52n;

/** Magic numbers of statfs(2) whose file systems answer stat(2) from memory: ext4, tmpfs, xfs, btrfs, overlay, f2fs. */
const LOCAL = new Set([0xef53, 0x0102_1994, 0x5846_5342, 0x9123_683e, 0x794c_7630, 0xf2f5_2010]);

/** A node of the shared directory. */
export class HostNode {
	/** Names it, or -1 once it is forgotten. */
	fd: number;
	readonly key: string;
	/** Type, which never changes. */
	readonly type: number;
	/** The number of its file system here; 0 for that of the shared directory. */
	readonly device: number;

	constructor(fd: number, key: string, { mode }: FileStatus, device: number) {
		this.fd = fd;
		this.key = key;
		this.type = mode & S_IFMT;
		this.device = device;
	}

	/** On the file system of the shared directory itself. */
	get isHome(): boolean {
		return this.device === 0;
	}

	get isDirectory(): boolean {
		return this.type === S_IFDIR;
	}

	get isFile(): boolean {
		return this.type === S_IFREG;
	}

	get isLink(): boolean {
		return this.type === S_IFLNK;
	}
}

export class HostNodes {
	readonly root: HostNode;
	readonly #calls: FileCalls;
	/** stat(2) on the file system of the shared directory never waits. */
	readonly #local: boolean;
	readonly #byKey = new Map<string, HostNode>();
	readonly #devices = new Map<number, number>();

	/** @param rootFd of the shared directory, closed by `close` */
	constructor(calls: FileCalls, rootFd: number, status: FileStatus, fsType: number) {
		this.#calls = calls;
		this.#local = LOCAL.has(fsType);
		this.root = this.#make(rootFd, status); /* not the guest's to hold */
	}

	/** How many there are. */
	get size(): number {
		return this.#byKey.size;
	}

	/** Whether what the host knows of a node is in its memory: a call that asks for it never waits. */
	isAtHand(node: HostNode): boolean {
		return this.#local && node.isHome;
	}

	/** The node in a directory that a descriptor names, which is taken over. */
	async identify(fd: number, parent: HostNode): Promise<HostNode> {
		if (this.isAtHand(parent)) return this.#identified(fd, this.#calls.statNow(fd));
		let status: FileStatus;
		try {
			status = await this.#calls.stat(fd);
		} catch (error) {
			close(fd);
			throw error;
		}
		return this.#identified(fd, status);
	}

	/** The node of that name, which is one in the directory. */
	async lookup(parent: HostNode, name: string): Promise<HostNode> {
		const fd = await this.#calls.openPath({ fd: parent.fd, name });
		return await this.identify(fd, parent);
	}

	/** What stat(2) says. */
	status(node: HostNode): FileStatus | Promise<FileStatus> {
		if (node.fd < 0) throw ErrnoError.of("ESTALE");
		return this.isAtHand(node) ? this.#calls.statNow(node.fd) : this.#calls.stat(node.fd);
	}

	/** What the guest sees of it. */
	attributes(node: HostNode, status: FileStatus): Attributes {
		if (node.isHome) return status;
		return { ...status, ino: BigInt(status.ino) ^ (BigInt(node.device) << DEVICE_SHIFT) };
	}

	forget(node: HostNode): void {
		if (node === this.root || node.fd < 0) return;
		this.#byKey.delete(node.key);
		this.#letGo(node);
	}

	/** Lets go of all, the root too. */
	close(): void {
		for (const node of this.#byKey.values()) this.#letGo(node);
		this.#byKey.clear();
	}

	#letGo(node: HostNode): void {
		close(node.fd);
		node.fd = -1;
		if (node !== this.root) guestDescriptors().give();
	}

	/** @throws ErrnoError EMFILE */
	#identified(fd: number, status: FileStatus): HostNode {
		const known = this.#byKey.get(keyOf(status));
		if (known === undefined) {
			guestDescriptors().hold(fd);
			return this.#make(fd, status);
		}
		close(fd);
		return known;
	}

	#make(fd: number, status: FileStatus): HostNode {
		const device = this.#devices.get(status.dev) ?? this.#devices.size;
		this.#devices.set(status.dev, device);
		const node = new HostNode(fd, keyOf(status), status, device);
		this.#byKey.set(node.key, node);
		return node;
	}
}

function keyOf({ dev, ino }: FileStatus): string {
	return `${dev}:${ino}`;
}
