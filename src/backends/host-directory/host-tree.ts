/*
 * Several directories of the host in one file system: its root has one entry for each, which come and go while the guest
 * has it mounted. So one virtio-fs device carries the roots and volumes of all containers of a machine.
 *
 *     /            the tree's own, which the guest cannot change
 *     /a-root      a HostDirectory
 *     /a-0         another one, or the directory of a single file
 *
 * A node belongs to the directory in which it was found, so an operation goes to that one. Two directories are two file
 * systems: a rename or a hard link from one to another is EXDEV.
 */
import { ErrnoError } from "../../base/errno-error.ts";
import type { Segments } from "../../base/segments.ts";
import { O_ACCMODE, O_DIRECTORY, O_TRUNC } from "../../host/syscall-numbers.ts";
import type {
	Answer,
	AttributeChanges,
	Attributes,
	DirectoryEntry,
	FilePosition,
	FileSystem,
	FileSystemStatus,
	NewNode,
	OpenFile,
	Place,
} from "../contract.ts";
import { type HostDirectory, HostFile } from "./host-directory.ts";
import type { HostNode } from "./host-nodes.ts";
import { HostTreeState, type OwnNode } from "./host-tree-state.ts";

const S_IFDIR = 0o040000;
/** Inode numbers of different directories differ in their upper bits. */
const ENTRY_SHIFT = 48n;

/** The root has no descriptor. */
const NO_FILE = new HostFile(-1, O_DIRECTORY);

/** The root of a tree. */
class TreeRoot {
	readonly attributes: Attributes = { mode: S_IFDIR | 0o755, nlink: 2 };
}

type Node = HostNode | TreeRoot;
type Open = OpenFile<Node, HostFile>;

/** A directory in the tree. It is closed when nothing of it is open or in flight any more. */
class Entry {
	readonly name: string;
	readonly directory: HostDirectory;
	readonly number: bigint;
	users = 0;
	isGone = false;

	constructor(name: string, directory: HostDirectory, number: bigint) {
		this.name = name;
		this.directory = directory;
		this.number = number;
	}

	release(): void {
		this.users--;
		this.closeIfUnused();
	}

	closeIfUnused(): void {
		if (this.isGone && this.users === 0) void this.directory.close();
	}
}

export class HostTree implements FileSystem<Node, HostFile> {
	readonly root = new TreeRoot();
	readonly state = new HostTreeState<Node>({
		own: (node) => this.#held(node),
		found: (name, find) => this.#found(name, find),
		opened: (node, open) => this.#opened(node, open),
	});
	readonly #entries = new Map<string, Entry>();
	readonly #owners = new WeakMap<HostNode, Entry>();
	#count = 0n;

	/** Puts a directory into the root. It is the tree's from then on. @param name of its entry, which is not taken yet */
	add(name: string, directory: HostDirectory): void {
		this.#count++;
		const entry = new Entry(name, directory, this.#count);
		this.#owners.set(directory.root, entry);
		this.#entries.set(name, entry);
	}

	/** Takes a directory out again. What the guest still holds of it is ESTALE. */
	remove(name: string): void {
		const entry = this.#entries.get(name);
		if (entry === undefined) return;
		this.#entries.delete(name);
		entry.isGone = true;
		entry.closeIfUnused();
	}

	/** The names in the root. */
	get names(): string[] {
		return [...this.#entries.keys()];
	}

	async lookup(parent: Node, name: string): Promise<Node> {
		if (parent instanceof TreeRoot) {
			const entry = this.#entries.get(name);
			if (entry === undefined) throw ErrnoError.of("ENOENT");
			return entry.directory.root;
		}
		return await this.#node(parent, (directory, node) => directory.lookup(node, name));
	}

	forget(node: Node): void {
		if (node instanceof TreeRoot) return;
		const entry = this.#owners.get(node);
		if (entry?.isGone === false) entry.directory.forget(node);
	}

	async getattr(node: Node): Promise<Attributes> {
		if (node instanceof TreeRoot) return node.attributes;
		return await this.#use(node, async ({ directory, number }, own) => {
			const found = await directory.getattr(own);
			return { ...found, ino: BigInt(found.ino ?? 0) ^ (number << ENTRY_SHIFT) };
		});
	}

	setattr(node: Node, changes: AttributeChanges, file?: HostFile): Promise<void> {
		return this.#change(node, (directory, own) => directory.setattr(own, changes, file));
	}

	readlink(node: Node): Promise<string> {
		return this.#use(node, ({ directory }, own) => directory.readlink(own));
	}

	symlink(parent: Node, name: string, target: string, how: NewNode): Promise<Node> {
		return this.#node(parent, (directory, own) => directory.symlink(own, name, target, how), true);
	}

	mknod(parent: Node, name: string, how: NewNode): Promise<Node> {
		return this.#node(parent, (directory, own) => directory.mknod(own, name, how), true);
	}

	mkdir(parent: Node, name: string, how: NewNode): Promise<Node> {
		return this.#node(parent, (directory, own) => directory.mkdir(own, name, how), true);
	}

	unlink(parent: Node, name: string): Promise<void> {
		return this.#change(parent, (directory, own) => directory.unlink(own, name));
	}

	rmdir(parent: Node, name: string): Promise<void> {
		return this.#change(parent, (directory, own) => directory.rmdir(own, name));
	}

	rename(from: Place<Node>, to: Place<Node>, flags: number): Promise<void> {
		return this.#change(from.parent, (directory, parent) =>
			directory.rename({ parent, name: from.name }, this.#within(directory, to), flags),
		);
	}

	link(node: Node, to: Place<Node>): Promise<void> {
		return this.#change(node, (directory, own) => directory.link(own, this.#within(directory, to)));
	}

	open(node: Node, flags: number, killSuidGid: boolean): Promise<HostFile> {
		const writes = (flags & (O_ACCMODE | O_TRUNC)) !== 0;
		return this.#use(node, async (entry, own) => {
			if (writes) writable(entry);
			return held(entry, await entry.directory.open(own, flags, killSuidGid));
		});
	}

	create(parent: Node, name: string, flags: number, how: NewNode): Promise<Required<OpenFile<Node, HostFile>>> {
		return this.#made(parent, (directory, own) => directory.create(own, name, flags, how));
	}

	tmpfile(parent: Node, flags: number, how: NewNode): Promise<Required<OpenFile<Node, HostFile>>> {
		return this.#made(parent, (directory, own) => directory.tmpfile(own, flags, how));
	}

	opendir(node: Node): Answer<HostFile> {
		if (node instanceof TreeRoot) return NO_FILE;
		return this.#use(node, async (entry, own) => held(entry, await entry.directory.opendir(own)));
	}

	release({ node, file }: Open): void {
		if (node instanceof TreeRoot || file === undefined) return;
		const entry = this.#owners.get(node);
		entry?.directory.release({ node, file });
		entry?.release();
	}

	read({ node, file }: Open, offset: number, into: Segments): Promise<number> {
		return this.#use(node, ({ directory }, own) => directory.read({ node: own, file }, offset, into));
	}

	write({ node, file }: Open, offset: number, from: Segments, killSuidGid: boolean): Promise<number> {
		return this.#use(node, ({ directory }, own) => directory.write({ node: own, file }, offset, from, killSuidGid));
	}

	async readdir({ node, file }: Open, position: bigint): Promise<readonly DirectoryEntry[]> {
		if (!(node instanceof TreeRoot)) {
			return await this.#use(node, ({ directory }, own) => directory.readdir({ node: own, file }, position));
		}
		const all = this.names.map((name, i) => ({ name, mode: S_IFDIR, position: BigInt(i + 1) }));
		return all.slice(Number(position));
	}

	fsync({ node, file }: Open, dataOnly: boolean): Promise<void> {
		return this.#use(node, ({ directory }, own) => directory.fsync({ node: own, file }, dataOnly));
	}

	fallocate({ node, file }: Open, range: { mode: number; offset: number; length: number }): Promise<void> {
		return this.#use(node, ({ directory }, own) => directory.fallocate({ node: own, file }, range));
	}

	lseek({ node, file }: Open, offset: number, whence: number): Promise<number> {
		return this.#use(node, ({ directory }, own) => directory.lseek({ node: own, file }, offset, whence));
	}

	copyFileRange(from: FilePosition<Node, HostFile>, to: FilePosition<Node, HostFile>, length: number): Promise<number> {
		return this.#use(from.open.node, ({ directory }, own) => {
			const target = this.#own(to.open.node);
			if (target.entry.directory !== directory) throw ErrnoError.of("EXDEV");
			return directory.copyFileRange(
				{ ...from, open: { node: own, file: from.open.file } },
				{ ...to, open: { node: target.node, file: to.open.file } },
				length,
			);
		});
	}

	getxattr(node: Node, name: string): Promise<Uint8Array> {
		return this.#use(node, ({ directory }, own) => directory.getxattr(own, name));
	}

	setxattr(node: Node, name: string, value: Uint8Array, flags: number): Promise<void> {
		return this.#change(node, (directory, own) => directory.setxattr(own, name, value, flags));
	}

	listxattr(node: Node): Promise<readonly string[]> {
		return this.#use(node, ({ directory }, own) => directory.listxattr(own));
	}

	removexattr(node: Node, name: string): Promise<void> {
		return this.#change(node, (directory, own) => directory.removexattr(own, name));
	}

	async statfs(node: Node): Promise<FileSystemStatus> {
		if (!(node instanceof TreeRoot)) return await this.#use(node, ({ directory }, own) => directory.statfs(own));
		return { bsize: 4096, blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0, namelen: 255 };
	}

	async syncfs(): Promise<void> {
		await Promise.all([...this.#entries.values()].map(({ directory }) => directory.syncfs()));
	}

	async close(): Promise<void> {
		await Promise.all([...this.#entries.values()].map(({ directory }) => directory.close()));
	}

	/** @throws ErrnoError EPERM for the root, ESTALE for what was in a directory that has gone */
	#own(node: Node): { entry: Entry; node: HostNode } {
		if (node instanceof TreeRoot) throw ErrnoError.of("EPERM");
		const entry = this.#owners.get(node);
		if (entry === undefined || entry.isGone) throw ErrnoError.of("ESTALE");
		return { entry, node };
	}

	async #use<T>(node: Node, work: (entry: Entry, node: HostNode) => Answer<T>): Promise<T> {
		const own = this.#own(node);
		own.entry.users++;
		try {
			return await work(own.entry, own.node);
		} finally {
			own.entry.release();
		}
	}

	#change<T>(node: Node, work: (directory: HostDirectory, node: HostNode) => Answer<T>): Promise<T> {
		return this.#use(node, (entry, own) => {
			writable(entry);
			return work(entry.directory, own);
		});
	}

	/** A node that was found or made in a directory. */
	#node(
		parent: Node,
		work: (directory: HostDirectory, node: HostNode) => Promise<HostNode>,
		changes = false,
	): Promise<HostNode> {
		return this.#use(parent, async (entry, own) => {
			if (changes) writable(entry);
			const node = await work(entry.directory, own);
			this.#owners.set(node, entry);
			return node;
		});
	}

	#made(
		parent: Node,
		work: (directory: HostDirectory, node: HostNode) => Promise<{ node: HostNode; file: HostFile }>,
	): Promise<{ node: HostNode; file: HostFile }> {
		return this.#use(parent, async (entry, own) => {
			writable(entry);
			const made = await work(entry.directory, own);
			this.#owners.set(made.node, entry);
			held(entry, made.file);
			return made;
		});
	}

	#held(node: Node): OwnNode | undefined {
		if (node instanceof TreeRoot) return undefined;
		const entry = this.#owners.get(node);
		return entry?.isGone === false ? { name: entry.name, directory: entry.directory, node } : undefined;
	}

	async #found(name: string, find: (directory: HostDirectory) => Promise<HostNode>): Promise<Node> {
		const entry = this.#entries.get(name);
		if (entry === undefined) throw ErrnoError.of("ESTALE");
		return await this.#node(entry.directory.root, find);
	}

	async #opened(node: Node, open: (directory: HostDirectory, node: HostNode) => Promise<HostFile>): Promise<HostFile> {
		if (node instanceof TreeRoot) return NO_FILE;
		return await this.#use(node, async (entry, own) => held(entry, await open(entry.directory, own)));
	}

	/** @throws ErrnoError EXDEV for a place in another directory */
	#within(directory: HostDirectory, { parent, name }: Place<Node>): Place<HostNode> {
		const { entry, node } = this.#own(parent);
		if (entry.directory !== directory) throw ErrnoError.of("EXDEV");
		return { parent: node, name };
	}
}

/** @throws ErrnoError EROFS */
function writable({ directory }: Entry): void {
	if (directory.readOnly) throw ErrnoError.of("EROFS");
}

/** An open file keeps its directory. */
function held(entry: Entry, file: HostFile): HostFile {
	entry.users++;
	return file;
}
