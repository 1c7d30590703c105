/*
 * A root file system as a tree in memory. Directories hold names, names point to inodes, and two names of one inode are
 * hard links. File contents stay in their layer. Nothing is extracted on the host, so no path in an image can reach the
 * host's files.
 *
 * Paths are resolved as the kernel does with the tree as its root. Symbolic links in parent directories are followed,
 * an absolute target starts at the tree's root, and ".." at the root stays there.
 */
import type { ImageError } from "../../base/errors.ts";
import type { ImageBudget } from "./budget.ts";
import { escapes, malformed } from "./failure.ts";
import { quoted, shown, type TarEntry, type TarType, type TarXattrs } from "./tar/entry.ts";

export interface Inode {
	type: Exclude<TarType, "link">;
	mode: number;
	uid: number;
	gid: number;
	mtime: number;
	/** Where they are in the source. */
	xattrs: TarXattrs | undefined;
	/** A symbolic link's target, as bytes. */
	target: string;
	major: number;
	minor: number;
	/** Where the content is: the source (the layer's position), the offset and the size. */
	source: number;
	offset: number;
	size: number;
	/** How many names it was given. Some may have been removed. */
	links: number;
	/** Only directories have names in them, */
	children?: Map<string, Inode>;
	/** and one path, whose length in bytes this is, with a "/" at its end. */
	pathBytes: number;
}

/** Where a path came from: its name in messages, and the budget that pays for the look-up. */
export interface Origin {
	readonly file: string;
	readonly budget: ImageBudget;
}

/** Linux gives up after 40 symbolic links (fs/namei.c MAXSYMLINKS). */
const MAX_SYMLINKS = 40;
const MAX_NAME = 255;
const MAX_PATH = 4096;

/** A directory that no layer has an entry for: it belongs to root, with mode 0755. */
export function newDirectory(pathBytes = 0): Inode {
	return {
		type: "directory",
		mode: 0o755,
		uid: 0,
		gid: 0,
		mtime: 0,
		xattrs: undefined,
		target: "",
		major: 0,
		minor: 0,
		source: -1,
		offset: 0,
		size: 0,
		links: 1,
		children: new Map(),
		pathBytes,
	};
}

/** An inode from a tar member that is not a hard link. */
export function newInode(entry: TarEntry, source: number, pathBytes: number): Inode {
	const { mode, uid, gid, mtime, xattrs, target, major, minor, size, offset } = entry;
	const type = entry.type as Inode["type"];
	const attributes = { type, mode, uid, gid, mtime, xattrs, target, major, minor, source, offset, size };
	const inode: Inode = { ...attributes, links: 1, pathBytes };
	if (type === "directory") inode.children = new Map();
	return inode;
}

/** Gives a directory the attributes of another entry for it. Its content stays. */
export function changeDirectory(directory: Inode, { mode, uid, gid, mtime, xattrs }: TarEntry, source: number): void {
	Object.assign(directory, { mode, uid, gid, mtime, xattrs, source });
}

/**
 * The components of a path in an archive. A leading "/" or "./" means the root, as for Docker. ".." is refused.
 *
 * @throws ImageError ERR_IMAGE_PATH, or ERR_IMAGE_MALFORMED for a name no file system takes
 */
export function componentsOf(path: string, file: string): string[] {
	if (path.length > MAX_PATH) throw tooLong(file, path);
	const parts = componentsOfTarget(path);
	if (parts.includes("..")) throw escapes(file, shown(path), "leads out of the image");
	if (parts.some((part) => part.length > MAX_NAME)) throw tooLong(file, path);
	return parts;
}

function tooLong(file: string, path: string): ImageError {
	return malformed(file, `a path of ${path.length} bytes is too long: ${quoted(path)}`);
}

/**
 * The directory at `parts`, through symbolic links.
 *
 * @param create make missing directories; otherwise undefined is returned
 * @throws ImageError ERR_IMAGE_MALFORMED when something on the way is not a directory (only with `create`),
 *   ERR_IMAGE_TOO_LARGE
 */
export function directoryAt(root: Inode, parts: readonly string[], origin: Origin, create: boolean): Inode | undefined {
	const { file, budget } = origin;
	const stack = [root];
	const todo = [...parts].reverse();
	let links = 0;
	for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
		const here = stack.at(-1)!;
		budget.addWalk(file, name.length + 1);
		if (name === "..") {
			if (stack.length > 1) stack.pop();
			continue;
		}
		let next = here.children!.get(name);
		if (next === undefined) {
			if (!create) return undefined;
			budget.addEntry(file, name.length);
			next = newDirectory(pathBytesIn(here, name, file) + 1);
			here.children!.set(name, next);
		}
		if (next.type === "symlink") {
			if (++links > MAX_SYMLINKS) throw malformed(file, `too many symbolic links in ${show(parts)}`);
			budget.addWalk(file, next.target.length);
			if (next.target.startsWith("/")) stack.length = 1;
			todo.push(...componentsOfTarget(next.target).reverse());
			continue;
		}
		if (next.children === undefined) {
			if (!create) return undefined;
			throw malformed(file, `${show(parts)}: ${quoted(name)} is not a directory`);
		}
		stack.push(next);
	}
	return stack.at(-1)!;
}

/**
 * The length of a name's path in the tree. Symbolic links can make it longer than the path in the archive.
 *
 * @throws ImageError ERR_IMAGE_MALFORMED beyond what the kernel takes
 */
export function pathBytesIn(directory: Inode, name: string, file: string): number {
	const bytes = directory.pathBytes + name.length;
	if (bytes <= MAX_PATH && name.length <= MAX_NAME) return bytes;
	throw malformed(file, `a path of ${bytes} bytes is too long: it ends with ${quoted(name)}`);
}

function componentsOfTarget(target: string): string[] {
	return target.split("/").filter((part) => part !== "" && part !== ".");
}

function show(parts: readonly string[]): string {
	return quoted(parts.join("/"));
}

/** Every name in the tree, sorted by bytes, directories before what is in them; the root itself is not among them. */
export function* walk(root: Inode): Generator<{ path: string; inode: Inode }> {
	/* Only names are kept, and paths are made one by one: a directory may have a million entries. */
	const stack = [enter(root, "")];
	for (let at = stack.at(-1); at !== undefined; at = stack.at(-1)) {
		const name = at.names[at.next++];
		if (name === undefined) {
			stack.pop();
			continue;
		}
		const path = `${at.prefix}${name}`;
		const inode = at.directory.children!.get(name)!;
		yield { path, inode };
		if (inode.children !== undefined) stack.push(enter(inode, `${path}/`));
	}
}

function enter(directory: Inode, prefix: string) {
	return { directory, prefix, names: [...directory.children!.keys()].sort(), next: 0 };
}
