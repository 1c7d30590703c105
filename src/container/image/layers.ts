/*
 * Applies layers to a tree, lowest first, by the rules of OCI image-spec 1.1 (layer.md). `.wh.NAME` removes NAME of the
 * layers below. `.wh..wh..opq` removes all that the layers below have in its directory. A directory over a directory
 * changes its metadata and keeps its content. Any other entry replaces the one below. A whiteout may stand anywhere in
 * the archive but acts on lower layers only, so each layer is read in two passes. Then the tree is written as one tar
 * stream.
 */
import { ImageBudget } from "./budget.ts";
import { escapes, malformed } from "./failure.ts";
import { Pace } from "./pace.ts";
import { chunks, type FileRange, quoted, shown, type TarEntry } from "./tar/entry.ts";
import { readXattrs } from "./tar/pax.ts";
import { readTar } from "./tar/read.ts";
import { padding, type TarHeader, tarEnd, tarHeader } from "./tar/write.ts";
import {
	changeDirectory,
	componentsOf,
	directoryAt,
	type Inode,
	newDirectory,
	newInode,
	type Origin,
	pathBytesIn,
	walk,
} from "./tree.ts";

/** The longest target that the kernel takes (PATH_MAX with its NUL). */
const MAX_TARGET = 4095;
const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";

/** An uncompressed layer and what to call it in messages. */
export interface OpenLayer {
	readonly range: FileRange;
	readonly name: string;
}

/**
 * The tree of all layers, lowest first. Inode.source is the position in `layers`.
 *
 * @param onEntry told each entry of each layer, by the layer's position
 * @throws ImageError ERR_IMAGE_MALFORMED, ERR_IMAGE_PATH, ERR_IMAGE_TOO_LARGE; the reason of the pace's signal
 */
export async function mergeLayers(
	layers: readonly OpenLayer[],
	budget = new ImageBudget(),
	pace = new Pace(),
	onEntry?: (source: number, entry: TarEntry) => void,
): Promise<Inode> {
	const root = newDirectory();
	for (const [source, layer] of layers.entries()) {
		const origin = { file: layer.name, budget };
		const entries: TarEntry[] = [];
		for (const entry of readTar(layer.range, layer.name)) {
			const turn = pace.step();
			if (turn !== undefined) await turn;
			budget.addEntry(layer.name, entry.path.length + entry.target.length);
			if (entry.xattrs !== undefined) budget.addXattrs(layer.name, entry.xattrs.bytes);
			onEntry?.(source, entry);
			const whiteout = whiteoutOf(entry, layer.name);
			/* Nothing is below the lowest layer, so one pass is enough. */
			if (source === 0) {
				if (whiteout === undefined) applyEntry(root, entry, source, origin);
			} else if (whiteout !== undefined) applyWhiteout(root, whiteout, origin);
			else entries.push(entry);
		}
		for (const entry of entries) {
			const turn = pace.step();
			if (turn !== undefined) await turn;
			applyEntry(root, entry, source, origin);
		}
	}
	return root;
}

interface Whiteout {
	readonly directory: readonly string[];
	/** What the whiteout removes: a name, everything, or nothing (one of aufs's own files). */
	readonly removes: { readonly name: string } | "all" | "nothing";
}

/** Undefined when the entry is a part of the image. */
function whiteoutOf(entry: TarEntry, file: string): Whiteout | undefined {
	if (!entry.path.includes(WHITEOUT)) return undefined;
	const directory = componentsOf(entry.path, file);
	const name = directory.pop();
	if (name === undefined || !name.startsWith(WHITEOUT)) {
		/* aufs's own files (.wh..wh.plnk/...) are no part of the image. */
		return directory.some((part) => part.startsWith(".wh..wh.")) ? { directory, removes: "nothing" } : undefined;
	}
	if (name === OPAQUE) return { directory, removes: "all" };
	if (name.startsWith(".wh..wh.")) return { directory, removes: "nothing" };
	const hidden = name.slice(WHITEOUT.length);
	if (hidden === "" || hidden === "." || hidden === "..") {
		throw escapes(file, shown(entry.path), "is a whiteout of no file");
	}
	return { directory, removes: { name: hidden } };
}

function applyWhiteout(root: Inode, { directory, removes }: Whiteout, origin: Origin): void {
	if (removes === "nothing") return;
	const children = directoryAt(root, directory, origin, false)?.children;
	if (removes === "all") children?.clear();
	else children?.delete(removes.name);
}

function applyEntry(root: Inode, entry: TarEntry, source: number, origin: Origin): void {
	const { file } = origin;
	const parts = componentsOf(entry.path, file);
	const name = parts.pop();
	if (name === undefined) {
		if (entry.type !== "directory") throw malformed(file, "the root is not a directory");
		changeDirectory(root, entry, source);
		return;
	}
	if (entry.type === "link") {
		/* The target is looked up before the parents are made: a link must name an existing file. */
		const inode = linkTarget(root, entry, origin);
		const directory = directoryAt(root, parts, origin, true)!;
		pathBytesIn(directory, name, file);
		directory.children!.set(name, inode);
		inode.links++;
		return;
	}
	if (entry.type === "symlink" && (entry.target === "" || entry.target.length > MAX_TARGET)) {
		throw malformed(file, `${quoted(entry.path)} is a symbolic link of ${entry.target.length} bytes`);
	}
	const directory = directoryAt(root, parts, origin, true)!;
	const before = directory.children!.get(name);
	if (entry.type === "directory" && before?.children !== undefined) changeDirectory(before, entry, source);
	else directory.children!.set(name, newInode(entry, source, pathBytesIn(directory, name, file) + 1));
}

function linkTarget(root: Inode, entry: TarEntry, origin: Origin): Inode {
	const target = componentsOf(entry.target, origin.file);
	const last = target.pop();
	const inode = last === undefined ? root : directoryAt(root, target, origin, false)?.children?.get(last);
	if (inode === undefined || inode.children !== undefined) {
		const found = inode === undefined ? "which does not exist" : "which is a directory";
		throw malformed(origin.file, `${quoted(entry.path)} is a hard link to ${quoted(entry.target)}, ${found}`);
	}
	return inode;
}

/** Facts about a whole tree. */
export interface TreeMeasure {
	/** Bytes of all files, each inode counted once. */
	readonly sizeBytes: number;
	/** Seconds since the epoch, the root's own time among them. */
	readonly newest: number;
	/** Every uid and gid but the root's. */
	readonly owners: ReadonlySet<number>;
}

/** @throws ImageError ERR_IMAGE_TOO_LARGE when there are more owners than squashfs can number, and as mergeLayers */
export async function measureTree(root: Inode, budget = new ImageBudget(), pace = new Pace()): Promise<TreeMeasure> {
	const linked = new Set<Inode>();
	const owners = new Set<number>();
	let sizeBytes = 0;
	let newest = root.mtime;
	for (const { inode } of walk(root)) {
		const turn = pace.step();
		if (turn !== undefined) await turn;
		owners.add(inode.uid).add(inode.gid);
		budget.checkOwners("the image", owners.size);
		if (inode.mtime > newest) newest = inode.mtime;
		if (linked.has(inode)) continue;
		if (inode.links > 1) linked.add(inode);
		sizeBytes += inode.size;
	}
	return { sizeBytes, newest, owners };
}

/** Names of attributes that squashfs can hold (fs/squashfs/xattr_id.c). It cannot hold POSIX ACLs. */
const KEPT_XATTRS = /^(user|trusted|security)\./;

/**
 * The tree as one tar stream, sorted, without an entry for the root (sqfstar takes its metadata as options).
 *
 * @param onBytes called with the bytes of file content written so far
 */
export async function* writeTree(
	root: Inode,
	layers: readonly OpenLayer[],
	budget = new ImageBudget(),
	onBytes?: (done: number) => void,
): AsyncGenerator<Buffer> {
	const pace = new Pace();
	/* The first name of each inode that may have another one. */
	const first = new Map<Inode, string>();
	let done = 0;
	for (const { path, inode } of walk(root)) {
		const turn = pace.step();
		if (turn !== undefined) await turn;
		const earlier = first.get(inode);
		if (earlier !== undefined) {
			yield tarHeader({ ...headerOf(path, inode), type: "link", target: earlier, size: 0 });
			continue;
		}
		if (inode.links > 1) {
			budget.hold("the image", path.length);
			first.set(inode, path);
		}
		const layer = layers[inode.source];
		yield tarHeader({ ...headerOf(path, inode), xattrs: keptXattrs(inode, layer) });
		if (inode.size === 0) continue;
		for (const chunk of chunks(layer!.range, inode.offset, inode.size)) {
			yield chunk;
			done += chunk.length;
			onBytes?.(done);
		}
		yield padding(inode.size);
	}
	yield tarEnd();
}

const NO_XATTRS: ReadonlyMap<string, Buffer> = new Map();

function keptXattrs(inode: Inode, layer: OpenLayer | undefined): ReadonlyMap<string, Buffer> {
	if (inode.xattrs === undefined || layer === undefined) return NO_XATTRS;
	const all = readXattrs(layer.range, inode.xattrs, layer.name);
	return new Map([...all].filter(([name]) => KEPT_XATTRS.test(name)));
}

function headerOf(path: string, inode: Inode): TarHeader {
	const { type, mode, uid, gid, target, major, minor, size } = inode;
	return { path, type, mode, uid, gid, mtime: clampTime(inode.mtime), target, major, minor, size, xattrs: NO_XATTRS };
}

/** squashfs keeps times as unsigned 32-bit seconds. */
export function clampTime(seconds: number): number {
	return Math.min(Math.max(seconds, 0), 0xffff_ffff);
}
