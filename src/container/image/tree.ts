/*
 * A root file system as a tree in memory: folders hold names, names point to inodes, two names of one inode are hard
 * links. File contents stay where they are (a layer and an offset). Nothing is ever extracted on the host, so that no
 * path in an image can reach the host's files, whatever it says.
 *
 * Paths are resolved inside the tree as the kernel would with the tree as its root: symbolic links in parent folders
 * are followed, an absolute target starts at the tree's root, ".." at the root stays there.
 */
import { escapes, malformed } from "./failure.ts";
import { shown, type TarEntry, type TarType } from "./tar/entry.ts";

export interface Inode {
	type: Exclude<TarType, "link">;
	mode: number;
	uid: number;
	gid: number;
	mtime: number;
	xattrs: ReadonlyMap<string, Buffer>;
	/** A symbolic link's target, as bytes. */
	target: string;
	major: number;
	minor: number;
	/** Content: which source it is in (the layer's position), where, and how long. */
	source: number;
	offset: number;
	size: number;
	/** Only folders have names in them. */
	children?: Map<string, Inode>;
}

/** Linux gives up after 40 symbolic links (fs/namei.c MAXSYMLINKS). */
const MAX_SYMLINKS = 40;
const MAX_NAME = 255;
const MAX_PATH = 4096;

/** A folder as it is made where a layer forgot it: root's, 0755. */
export function newFolder(mode = 0o755): Inode {
	return {
		type: "directory",
		mode,
		uid: 0,
		gid: 0,
		mtime: 0,
		xattrs: new Map(),
		target: "",
		major: 0,
		minor: 0,
		source: -1,
		offset: 0,
		size: 0,
		children: new Map(),
	};
}

/** An inode from a tar member that is not a hard link. Existing `children` stay when a folder meets a folder. */
export function newInode(entry: TarEntry, source: number, children?: Map<string, Inode>): Inode {
	const { mode, uid, gid, mtime, xattrs, target, major, minor, size, offset } = entry;
	const type = entry.type as Inode["type"];
	const inode: Inode = { type, mode, uid, gid, mtime, xattrs, target, major, minor, source, offset, size };
	if (type === "directory") inode.children = children ?? new Map();
	return inode;
}

/**
 * The components of a path in an archive: leading "/" and "./" mean the root, as Docker has it; ".." is refused.
 *
 * @throws ImageError ERR_IMAGE_PATH, or ERR_IMAGE_MALFORMED for a name no file system takes
 */
export function componentsOf(path: string, file: string): string[] {
	const parts = path.split("/").filter((part) => part !== "" && part !== ".");
	if (parts.includes("..")) throw escapes(file, shown(path), "leads out of the image");
	if (path.length > MAX_PATH || parts.some((part) => part.length > MAX_NAME)) {
		throw malformed(file, `a path of ${path.length} bytes is too long: ${JSON.stringify(shown(path).slice(0, 60))}...`);
	}
	return parts;
}

/**
 * The folder at `parts`, through symbolic links.
 *
 * @param create true to make what is missing; otherwise undefined comes back
 * @throws ImageError ERR_IMAGE_MALFORMED when something on the way is not a folder (only with `create`)
 */
export function folderAt(root: Inode, parts: readonly string[], file: string, create: boolean): Inode | undefined {
	const stack = [root];
	const todo = [...parts].reverse();
	let links = 0;
	for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
		const here = stack.at(-1)!;
		if (name === "..") {
			if (stack.length > 1) stack.pop();
			continue;
		}
		let next = here.children!.get(name);
		if (next === undefined) {
			if (!create) return undefined;
			next = newFolder();
			here.children!.set(name, next);
		}
		if (next.type === "symlink") {
			if (++links > MAX_SYMLINKS) throw malformed(file, `too many symbolic links in ${show(parts)}`);
			if (next.target.startsWith("/")) stack.length = 1;
			todo.push(...componentsOfTarget(next.target).reverse());
			continue;
		}
		if (next.children === undefined) {
			if (!create) return undefined;
			throw malformed(file, `${show(parts)}: "${shown(name)}" is not a folder`);
		}
		stack.push(next);
		if (stack.length > MAX_PATH / 2) throw malformed(file, `${show(parts).slice(0, 60)}... is too deep`);
	}
	return stack.at(-1)!;
}

function componentsOfTarget(target: string): string[] {
	return target.split("/").filter((part) => part !== "" && part !== ".");
}

function show(parts: readonly string[]): string {
	return JSON.stringify(shown(parts.join("/")));
}

/** Every name in the tree, sorted by bytes, folders before what is in them; the root itself is not among them. */
export function* walk(root: Inode): Generator<{ path: string; inode: Inode }> {
	const stack: { path: string; inode: Inode }[] = [];
	const enter = (folder: Inode, prefix: string) => {
		const names = [...folder.children!.keys()].sort().reverse();
		for (const name of names) stack.push({ path: `${prefix}${name}`, inode: folder.children!.get(name)! });
	};
	enter(root, "");
	for (let item = stack.pop(); item !== undefined; item = stack.pop()) {
		yield item;
		if (item.inode.children !== undefined) enter(item.inode, `${item.path}/`);
	}
}
