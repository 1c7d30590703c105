/*
 * Makes an image's root file system: an uncompressed squashfs that sqfstar makes of the merged tar stream.
 * docs/root-file-system.md says why. It is built once per manifest and kept beside the store. Nothing is extracted and
 * no root is needed. Owners, devices and capabilities are as in the image.
 *
 *     open it -> whole? -> that is it
 *        | no such file, or one that was cut short
 *     store's lock, shared -> build .UUID -> sync, rename -> open it
 */
import { spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { type FileHandle, mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { errnoName, explain, HostError } from "../../base/errors.ts";
import { keepTail } from "../../host/command.ts";
import { publish } from "../../host/durable-file.ts";
import { findTool, toolMissing } from "../../host/tools.ts";
import { removeUnused } from "../../host/unused.ts";
import { ImageBudget } from "./budget.ts";
import type { StoredImage } from "./config.ts";
import { storeFull, writeFailure } from "./failure.ts";
import { type LayerSource, withLayers } from "./layer-file.ts";
import { clampTime, measureTree, mergeLayers, type OpenLayer, type TreeMeasure, writeTree } from "./layers.ts";
import { Pace } from "./pace.ts";
import { isWhole, patchRootInode } from "./squashfs-root.ts";
import { scratchFile, writeAll } from "./staging.ts";
import type { ImageStore } from "./store.ts";
import type { Inode } from "./tree.ts";

/** A root file system that a machine can mount. */
export interface RootfsImage {
	/** A file whose size is a multiple of 4 KiB. */
	readonly path: string;
	/** What the guest mounts it as, read-only. */
	readonly fstype: "squashfs";
	/** The file, open. It is used instead of `path`, which may be removed meanwhile. The caller closes it. */
	readonly fd?: number;
}

/** An open root file system of the cache. `image rm` removes its name, but its content stays. The caller closes it. */
export class OpenRootfs implements RootfsImage, AsyncDisposable {
	readonly path: string;
	readonly fstype = "squashfs";
	readonly #file: FileHandle;

	/** @param file of `path`; closed with this */
	constructor(path: string, file: FileHandle) {
		this.path = path;
		this.#file = file;
	}

	get fd(): number {
		return this.#file.fd;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#file.close();
	}
}

export interface RootfsOptions {
	/** Bytes of file content that are done, and all of them. Called often. */
	onProgress?: (done: number, total: number) => void;
	signal?: AbortSignal;
}

/**
 * No compression: it would cost the guest's CPU. Blocks of 32 KiB and no fragments: a page fault reads one whole block,
 * and the end of a small file is not read with its neighbours.
 */
const SQUASHFS = ["-noI", "-noD", "-noF", "-noX", "-no-fragments", "-b", "32K"];
const LIMITS = ["-mem", "64M", "-no-progress", "-exit-on-error"];
/** Part of the file's name. Change the number when the files are made in another way. */
const RECIPE = createHash("sha256")
	.update(`2 ${SQUASHFS.join(" ")}`)
	.digest("hex")
	.slice(0, 8);

/** The path of an image's root file system, which may not exist yet. */
export function rootfsPath(store: ImageStore, image: StoredImage): string {
	return join(store.rootfsDirectory, `${image.digest.slice("sha256:".length)}-${RECIPE}.squashfs`);
}

/**
 * The root file system of an image. It is built if it is missing or damaged. Files that killed builds have left are
 * removed.
 *
 * @returns open; the caller closes it
 * @throws HostError ERR_STORE_FULL, ERR_TOOL_MISSING (squashfs-tools), ERR_ROOTFS_BUILD; ImageError
 *   ERR_IMAGE_NOT_FOUND when the image has been removed meanwhile, ERR_IMAGE_TOO_LARGE (another version of tsvmm may
 *   have accepted more at import); the signal's reason
 */
export async function openRootfs(
	store: ImageStore,
	image: StoredImage,
	options: RootfsOptions = {},
): Promise<OpenRootfs> {
	await store.collectLeftovers();
	const path = rootfsPath(store, image);
	/* No lock and no write here: the store may be on a read-only file system. */
	const present = await openWhole(path);
	if (present !== undefined) return new OpenRootfs(path, present);
	try {
		await mkdir(store.rootfsDirectory, { recursive: true });
		return await store.shared(async () => {
			store.find(image.digest);
			await build(store, image, path, options);
			await removeUnused(store.rootfsDirectory, (name) => !name.includes(`-${RECIPE}.`));
			return new OpenRootfs(path, await open(path, "r"));
		});
	} catch (error) {
		throw writeFailure(store.rootfsDirectory, error);
	}
}

/** Undefined when the file is missing or cut short. */
async function openWhole(path: string): Promise<FileHandle | undefined> {
	const file = await open(path, "r").catch((error: unknown) => {
		if (errnoName(error) === "ENOENT") return undefined;
		throw new HostError("ERR_STORE_READ", `Cannot read ${path}: ${explain(error)}`, { cause: error });
	});
	if (file === undefined) return undefined;
	let whole = false;
	try {
		whole = await isWhole(file);
	} finally {
		if (!whole) await file.close();
	}
	return whole ? file : undefined;
}

/** Makes the root file system. The caller holds the store's lock. */
async function build(store: ImageStore, image: StoredImage, path: string, options: RootfsOptions): Promise<void> {
	const temporary = join(store.rootfsDirectory, `.${randomUUID()}`);
	try {
		await buildFile(store, image, temporary, options);
		await publish(temporary, path);
	} finally {
		await rm(temporary, { force: true });
	}
}

async function buildFile(
	store: ImageStore,
	image: StoredImage,
	path: string,
	{ onProgress, signal }: RootfsOptions,
): Promise<void> {
	const budget = new ImageBudget();
	const pace = new Pace(signal);
	for (const { sizeBytes } of image.layers) budget.addInput(sizeBytes);
	const build = async (layers: readonly OpenLayer[]) => {
		const tree = await mergeLayers(layers, budget, pace);
		const measure = await measureTree(tree, budget, pace);
		const tar = writeTree(tree, layers, budget, (done) => onProgress?.(done, measure.sizeBytes));
		await squash(tar, path, { mode: tree.mode, newest: measure.newest, signal });
		await finish(tree, measure, path);
	};
	await withLayers(layerSource(store), image.layers, build, { budget, signal });
}

function layerSource(store: ImageStore): LayerSource {
	return {
		open: (digest) =>
			open(store.blobPath(digest), "r").catch((error: unknown) => {
				throw new HostError("ERR_STORE_READ", `Cannot read layer ${digest} in the image store: ${explain(error)}`, {
					hint: "Import the image again",
					cause: error,
				});
			}),
		scratch: () => scratchFile(store.rootfsDirectory),
		fill: writeAll,
	};
}

/** Gives the root directory its owner and time. */
async function finish(root: Inode, { owners }: TreeMeasure, path: string): Promise<void> {
	const handle = await open(path, "r+");
	try {
		await patchRootInode(handle, { uid: root.uid, gid: root.gid, mtime: clampTime(root.mtime) }, (id) =>
			owners.has(id),
		);
	} finally {
		await handle.close();
	}
}

/** What the image is made with, besides its files. */
interface SquashOptions {
	/** Permissions of the root directory. */
	readonly mode: number;
	/** When the newest file was changed. */
	readonly newest: number;
	readonly signal: AbortSignal | undefined;
}

async function squash(
	tar: AsyncIterable<Buffer>,
	path: string,
	{ mode, newest, signal }: SquashOptions,
): Promise<void> {
	const tool = findTool("sqfstar");
	if (tool === undefined) throw toolMissing("sqfstar");
	const child = spawn(tool, [...SQUASHFS, "-root-mode", mode.toString(8), ...LIMITS, path], {
		stdio: ["pipe", "ignore", "pipe"],
		/*
		 * The superblock's time. No file is newer, so this changes no file's time, and the same image gives the same bytes.
		 */
		env: { ...process.env, SOURCE_DATE_EPOCH: String(clampTime(newest)) },
	});
	const stderr = keepTail(child.stderr, 2000);
	const closed = once(child, "close") as Promise<[number | null, string | null]>;
	closed.catch(() => undefined);
	try {
		let failure: unknown;
		await pipeline(Readable.from(tar, { objectMode: false }), child.stdin, signal ? { signal } : {}).catch((error) => {
			failure = error;
		});
		signal?.throwIfAborted();
		/* If sqfstar stops reading (EPIPE), its stderr says why. Any other failure comes from the layers. */
		if (failure !== undefined && (failure as { code?: unknown }).code !== "EPIPE") throw failure;
		const [status, name] = await closed;
		if (status === 0 && failure === undefined) return;
		if (/no space left/i.test(stderr())) throw storeFull(path);
		const found = stderr().trim().split("\n").slice(-3).join("; ") || `it ended with ${name ?? `status ${status}`}`;
		throw new HostError("ERR_ROOTFS_BUILD", `Cannot build the root file system with sqfstar: ${found}`);
	} catch (error) {
		if (error instanceof HostError) throw error;
		throw error instanceof Error && error.message.includes("spawn")
			? new HostError("ERR_ROOTFS_BUILD", `Cannot run sqfstar: ${explain(error)}`, { cause: error })
			: error;
	} finally {
		if (child.exitCode === null && child.signalCode === null) {
			child.kill("SIGKILL");
			await closed.catch(() => undefined);
		}
	}
}
