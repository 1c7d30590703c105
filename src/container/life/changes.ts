/*
 * What a container has changed in its image's files, for diff and commit. The guest lists three trees: the image, the
 * root that the container sees, and the upper layer of its overlay. A path of the upper layer that the container sees is
 * new (A) or changed (C). A path of the image that it does not see is gone (D). So whiteouts and opaque directories need no
 * extended attributes, which the guest's tar does not carry.
 */
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import type { Session } from "../../agent/session.ts";
import { HostError } from "../../base/errors.ts";
import { stateDirectory } from "../../host/directories.ts";
import { wholeFile } from "../image/layer-file.ts";
import { scratchFile, writeAll } from "../image/staging.ts";
import { chunks, type FileRange, readRange } from "../image/tar/entry.ts";
import { readTar } from "../image/tar/read.ts";
import { padding, tarEnd, tarHeader } from "../image/tar/write.ts";
import type { ContainerAgent } from "./agent-access.ts";

/** A path as a byte string, without a slash before it. */
export interface Change {
	kind: "A" | "C" | "D";
	path: string;
}

/** The trees as lists of paths: "./etc/passwd". */
export interface Trees {
	image: readonly string[];
	/** What the container sees. */
	root: readonly string[];
	/** What it has written, with the overlay's whiteouts. */
	upper: readonly string[];
}

/** What tsvmm itself puts into each container. */
const OWN_TREES = new Set(["dev", "proc", "sys"]);
const OWN_FILES = new Set(["etc/hosts", "etc/hostname", "etc/resolv.conf"]);
/** Of all lists. An image has at most 2 million names. */
const MOST_LIST_BYTES = 512 * 2 ** 20;

/**
 * In a mount namespace of its own, which goes with the shell. Every path ends with a NUL, every list with one more; the tar
 * follows. $1 serial number of the image's disk, $2 of the disk with what was written or "" when that is mounted, $3 "list",
 * "layer" or "root", $4 the control group to freeze or "".
 */
const SCRIPT = `
b=/tools/busybox
freezer=/sys/fs/cgroup/$4/cgroup.freeze
if [ -n "$4" ] && [ -e "$freezer" ]; then
	trap '$b echo 0 >"$freezer"' EXIT
	trap 'exit 1' HUP INT TERM
	$b echo 1 >"$freezer"
fi
disk() {
	for d in /sys/block/*; do
		[ "$($b cat $d/serial 2>/dev/null)" = "$1" ] && echo /dev/\${d##*/}
	done
}
$b mkdir -p /run/changes/image /run/changes/root /run/writable || exit 1
$b mount -t squashfs -o ro "$(disk $1)" /run/changes/image || exit 1
[ -z "$2" ] || $b mount -t ext4 "$(disk $2)" /run/writable || exit 1
$b mount -t overlay -o ro,lowerdir=/run/writable/upper:/run/changes/image overlay /run/changes/root || exit 1
if [ "$3" = root ]; then
	cd /run/changes/root && $b tar -c -f - .
	exit
fi
for tree in /run/changes/image /run/changes/root /run/writable/upper; do
	cd $tree && $b find . -mindepth 1 -print0 && $b printf '\\0' || exit 1
done
cd /run/writable/upper
[ "$3" = list ] || $b tar -c -f - .
`;

/** A tar of a container's root, as it is without anything that is mounted in it. */
export async function exportRoot(agent: ContainerAgent): Promise<Session> {
	return await runScript(agent, "root", false);
}

/** What a container has changed, sorted by path. @throws HostError ERR_CHANGES */
export async function changesOf(agent: ContainerAgent): Promise<Change[]> {
	return await withListing(agent, { tar: false, freeze: false }, async ({ trees }) => findChanges(trees));
}

/**
 * Gives `work` the changes of a container as an image's layer, a tar with whiteouts (image-spec 1.1, layer.md).
 *
 * @param freeze its processes wait meanwhile
 * @throws HostError ERR_CHANGES; ImageError for an archive that is damaged
 */
export async function withLayer<T>(
	agent: ContainerAgent,
	freeze: boolean,
	work: (layer: Iterable<Uint8Array>) => Promise<T>,
): Promise<T> {
	return await withListing(agent, { tar: true, freeze }, ({ trees, archive }) => work(layerOf(archive, trees)));
}

/** What has changed between two trees, sorted by path as Docker has it. */
export function findChanges({ image, root, upper }: Trees): Change[] {
	const [before, now] = [new Set(image), new Set(root)];
	const changes = upper
		.filter((path) => now.has(path) && !isOwn(path))
		.map((path): Change => ({ kind: before.has(path) ? "C" : "A", path: path.slice(2) }));
	for (const path of image) {
		/* What was below a path that is gone is gone with it. */
		if (!now.has(path) && !isOwn(path) && isThere(parentOf(path), now))
			changes.push({ kind: "D", path: path.slice(2) });
	}
	changes.sort((a, b) => (a.path < b.path ? -1 : 1));
	/* /etc has changed by the files that tsvmm puts there, unless something else in it has. */
	const next = changes[changes.findIndex(({ path }) => path === "etc") + 1];
	return changes.filter(
		({ kind, path }) => !(path === "etc" && kind === "C" && next?.path.startsWith("etc/") !== true),
	);
}

/** The layer's tar, in pieces, of a tar of the upper layer. */
export function* layerOf(archive: FileRange, trees: Trees): Generator<Buffer> {
	const changes = new Map(findChanges(trees).map(({ path, kind }) => [path, kind]));
	for (const entry of readTar(archive, "the container's archive")) {
		const path = bare(entry.path);
		const kind = changes.get(path);
		if (kind === undefined || kind === "D") continue;
		const target = entry.type === "link" ? bare(entry.target) : entry.target;
		/* A hard link needs the file that it names. */
		if (entry.type === "link" && !changes.has(target)) continue;
		yield tarHeader({ ...entry, path, target, xattrs: new Map() });
		if (entry.type !== "file") continue;
		yield* chunks(archive, entry.offset, entry.size);
		yield padding(entry.size);
	}
	for (const [path, kind] of changes) {
		if (kind === "D") yield whiteout(path);
	}
	yield tarEnd();
}

function whiteout(path: string): Buffer {
	const at = path.lastIndexOf("/") + 1;
	const rest = { mode: 0o644, size: 0, uid: 0, gid: 0, mtime: 0, target: "", major: 0, minor: 0 };
	return tarHeader({ ...rest, path: `${path.slice(0, at)}.wh.${path.slice(at)}`, type: "file", xattrs: new Map() });
}

function isOwn(path: string): boolean {
	const bare = path.slice(2);
	return OWN_FILES.has(bare) || OWN_TREES.has(bare.split("/", 1)[0]!);
}

function parentOf(path: string): string {
	return path.slice(0, path.lastIndexOf("/"));
}

function isThere(path: string, tree: ReadonlySet<string>): boolean {
	return path === "." || tree.has(path);
}

function bare(path: string): string {
	return path.replace(/^(\.?\/)+/, "").replace(/\/+$/, "");
}

interface Listing {
	trees: Trees;
	archive: FileRange;
}

async function runScript(
	{ client, disks, cgroup }: ContainerAgent,
	what: "list" | "layer" | "root",
	freeze: boolean,
): Promise<Session> {
	const words = ["sh", "-c", SCRIPT, "changes", disks.root, disks.writable ?? "", what, freeze ? cgroup : ""];
	return await client.exec({
		tool: "busybox",
		args: ["unshare", "-m", "/tools/busybox", ...words],
		stdin: "null",
	});
}

async function withListing<T>(
	agent: ContainerAgent,
	{ tar, freeze }: { tar: boolean; freeze: boolean },
	work: (listing: Listing) => Promise<T>,
): Promise<T> {
	const session = await runScript(agent, tar ? "layer" : "list", freeze);
	const scratch = await scratchFile(stateDirectory());
	try {
		await received(session, (chunk) => writeAll(scratch, chunk));
		const range = await wholeFile(scratch);
		return await work(readListing(range));
	} finally {
		session.close();
		await scratch.close();
	}
}

async function received(
	session: { stdout: Readable; stderr: Readable; exit: Session["exit"] },
	take: (chunk: Buffer) => Promise<void>,
): Promise<void> {
	const complaint = text(session.stderr);
	for await (const chunk of session.stdout) await take(chunk as Buffer);
	const exit = await session.exit;
	if ("code" in exit && exit.code === 0) return;
	const lines = (await complaint).trim().split("\n").slice(-3).join("; ");
	throw failed(lines === "" ? "the tool was killed in the container" : lines);
}

/** The three lists, and the tar behind them. */
export function readListing(range: FileRange): Listing {
	const lists: string[][] = [];
	let list: string[] = [];
	let rest = "";
	let offset = 0;
	for (const chunk of chunks({ ...range, size: Math.min(range.size, MOST_LIST_BYTES) })) {
		const paths = (rest + chunk.toString("latin1")).split("\0");
		rest = paths.pop()!;
		for (const path of paths) {
			offset += path.length + 1;
			if (path !== "") list.push(path);
			else {
				lists.push(list);
				list = [];
			}
			const [image, root, upper] = lists;
			if (image === undefined || root === undefined || upper === undefined) continue;
			return {
				trees: { image, root, upper },
				archive: { ...range, start: range.start + offset, size: range.size - offset },
			};
		}
	}
	const what = readRange(range, 0, 1).length === 0 ? "its lists are missing" : "its lists have no end";
	throw failed(what);
}

function failed(why: string): HostError {
	return new HostError("ERR_CHANGES", `Cannot read what the container has changed: ${why}`);
}
