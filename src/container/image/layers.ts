/*
 * Applies layers to a tree, lowest first, by the rules of OCI image-spec 1.1 (layer.md): `.wh.NAME` removes NAME of the
 * layers below, `.wh..wh..opq` removes everything that the layers below have in its folder, a folder over a folder
 * changes its metadata and keeps what is in it, anything else replaces what was there. Whiteouts act only on lower
 * layers, wherever they stand in the archive, hence two passes. Then writes the tree as one tar stream.
 */
import { ImageError } from "../../base/errors.ts";
import { escapes, malformed } from "./failure.ts";
import { chunks, type FileRange, shown, type TarEntry } from "./tar/entry.ts";
import { readTar } from "./tar/read.ts";
import { padding, type TarHeader, tarEnd, tarHeader } from "./tar/write.ts";
import { componentsOf, folderAt, type Inode, newFolder, newInode, walk } from "./tree.ts";

/** Most names that an image may have in all layers: bounds the memory that a hostile one can take. */
export const MAX_ENTRIES = 2_000_000;
/** The kernel takes no longer symbolic link (PATH_MAX with its NUL). */
const MAX_TARGET = 4095;
const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";

/** An uncompressed layer and what to call it in messages. */
export interface OpenLayer {
	readonly range: FileRange;
	readonly name: string;
}

/** The tree of all layers, lowest first. Inode.source is the position in `layers`. */
export function mergeLayers(layers: readonly OpenLayer[]): Inode {
	const root = newFolder();
	let count = 0;
	for (const [source, layer] of layers.entries()) {
		const entries: TarEntry[] = [];
		for (const entry of readTar(layer.range, layer.name)) {
			if (++count > MAX_ENTRIES) {
				throw new ImageError("ERR_IMAGE_TOO_LARGE", `Cannot read image: more than ${MAX_ENTRIES} files`);
			}
			entries.push(entry);
		}
		const rest = entries.filter((entry) => !applyWhiteout(root, entry, layer.name));
		for (const entry of rest) applyEntry(root, entry, source, layer.name);
	}
	return root;
}

/** Removes what the entry whites out; false when it is not a whiteout. */
function applyWhiteout(root: Inode, entry: TarEntry, file: string): boolean {
	const parts = componentsOf(entry.path, file);
	const name = parts.at(-1);
	if (name === undefined || !name.startsWith(WHITEOUT)) {
		/* What aufs kept beside its files (.wh..wh.plnk/...) is no part of the image. */
		return parts.some((part) => part.startsWith(".wh..wh."));
	}
	const folder = folderAt(root, parts.slice(0, -1), file, false);
	if (name === OPAQUE) {
		folder?.children?.clear();
		return true;
	}
	if (name.startsWith(".wh..wh.")) return true;
	const hidden = name.slice(WHITEOUT.length);
	if (hidden === "" || hidden === "." || hidden === "..") {
		throw escapes(file, shown(entry.path), "is a whiteout of no file");
	}
	folder?.children?.delete(hidden);
	return true;
}

function applyEntry(root: Inode, entry: TarEntry, source: number, file: string): void {
	const parts = componentsOf(entry.path, file);
	const name = parts.pop();
	if (name === undefined) {
		if (entry.type !== "directory") throw malformed(file, "the root is not a folder");
		Object.assign(root, newInode(entry, source, root.children));
		return;
	}
	if (entry.type === "link") {
		/* Look the target up before the parents are made: a link must name what is there already. */
		const inode = linkTarget(root, entry, file);
		folderAt(root, parts, file, true)!.children!.set(name, inode);
		return;
	}
	if (entry.type === "symlink" && (entry.target === "" || entry.target.length > MAX_TARGET)) {
		throw malformed(file, `${JSON.stringify(shown(entry.path))} is a symbolic link of ${entry.target.length} bytes`);
	}
	const folder = folderAt(root, parts, file, true)!;
	const before = folder.children!.get(name);
	if (entry.type === "directory" && before?.children !== undefined) {
		Object.assign(before, newInode(entry, source, before.children));
	} else {
		folder.children!.set(name, newInode(entry, source));
	}
}

function linkTarget(root: Inode, entry: TarEntry, file: string): Inode {
	const target = componentsOf(entry.target, file);
	const last = target.pop();
	const inode = last === undefined ? root : folderAt(root, target, file, false)?.children?.get(last);
	if (inode === undefined || inode.children !== undefined) {
		const found = inode === undefined ? "which does not exist" : "which is a folder";
		throw malformed(
			file,
			`${JSON.stringify(shown(entry.path))} is a hard link to ${JSON.stringify(shown(entry.target))}, ${found}`,
		);
	}
	return inode;
}

/** Bytes of all files, each inode counted once, and the number of names. */
export function measureTree(root: Inode): { sizeBytes: number; names: number } {
	const seen = new Set<Inode>();
	let sizeBytes = 0;
	let names = 0;
	for (const { inode } of walk(root)) {
		names++;
		if (seen.has(inode)) continue;
		seen.add(inode);
		sizeBytes += inode.size;
	}
	return { sizeBytes, names };
}

/** Attribute names that squashfs can hold (fs/squashfs/xattr_id.c); POSIX ACLs are not among them. */
const KEPT_XATTRS = /^(user|trusted|security)\./;

/**
 * The tree as one tar stream, sorted, without an entry for the root (sqfstar takes its metadata as options).
 *
 * @param onBytes called with the bytes of file content written so far
 */
export async function* writeTree(
	root: Inode,
	layers: readonly OpenLayer[],
	onBytes?: (done: number) => void,
): AsyncGenerator<Buffer> {
	const first = new Map<Inode, string>();
	let done = 0;
	for (const { path, inode } of walk(root)) {
		const earlier = first.get(inode);
		if (earlier !== undefined) {
			yield tarHeader({ ...headerOf(path, inode), type: "link", target: earlier, size: 0, xattrs: new Map() });
			continue;
		}
		if (inode.children === undefined) first.set(inode, path);
		yield tarHeader(headerOf(path, inode));
		if (inode.size === 0) continue;
		for (const chunk of chunks(layers[inode.source]!.range, inode.offset, inode.size)) {
			yield chunk;
			done += chunk.length;
			onBytes?.(done);
		}
		yield padding(inode.size);
	}
	yield tarEnd();
}

function headerOf(path: string, inode: Inode): TarHeader {
	const { type, mode, uid, gid, target, major, minor, size } = inode;
	const xattrs = new Map([...inode.xattrs].filter(([name]) => KEPT_XATTRS.test(name)));
	/* squashfs keeps times as unsigned 32-bit seconds. */
	const mtime = Math.min(Math.max(inode.mtime, 0), 0xffff_ffff);
	return { path, type, mode, uid, gid, mtime, target, major, minor, size, xattrs };
}
