/*
 * Writes snapshots: of a machine, with all of its memory or with what differs from another snapshot; and of a snapshot with
 * those that it is based on, as one that needs none.
 */
import { existsSync } from "node:fs";
import { type FileHandle, mkdir, open, readdir, realpath, rm } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { errnoName, explain, SnapshotError } from "../base/errors.ts";
import { PAGE_BYTES, PageSet } from "../base/page-set.ts";
import type { SavedState } from "../base/state.ts";
import { publish, temporaryPath } from "../host/durable-file.ts";
import { copySparse } from "../host/sparse-copy.ts";
import { changedChunks } from "./difference.ts";
import { CONTAINER_FILES } from "./directory.ts";
import { type Layers, sealFrom, sha256 } from "./layers.ts";
import type { Manifest, Seal } from "./manifest.ts";
import { chunksOf, type MemoryPart, type OnChunk, writeMemory } from "./memory-file.ts";
import { FORMAT, snapshotId } from "./migrate.ts";
import { SnapshotImage } from "./snapshot.ts";
import { stateText } from "./state-text.ts";

/** What is to be kept of a machine. */
export interface SnapshotContent {
	readonly tsvmm: string;
	readonly machine: Manifest["machine"];
	readonly state: SavedState;
	readonly memory: readonly MemoryPart[];
	/** Of the file with the memory. */
	readonly memoryBytes: number;
	/** What the memory was restored from; undefined when it began with zeroes. */
	readonly origin: Layers | undefined;
	/** The pages that differ from that, and maybe more. */
	readonly writtenPages: () => Promise<PageSet>;
	/** Throws a StateError when the machine has ended: its memory is gone then. */
	readonly mustLive: () => void;
}

/** Options of what writes a snapshot. */
export interface WriteOptions {
	/** Called now and then with the bytes of memory that were looked at, and all of them. */
	onProgress?: ((done: number, total: number) => void) | undefined;
	/** Its abort ends the work with its reason. Then nothing is left. */
	signal?: AbortSignal | undefined;
}

/** Options of Machine.snapshot. */
export interface SnapshotOptions extends WriteOptions {
	/**
	 * The directory of an earlier snapshot of this machine, or of one that it was restored from. Pages that are the same there
	 * are not written. The base must stay where it is, as seen from the new snapshot.
	 */
	base?: string | undefined;
	/** The container that the machine is of. */
	with?: SnapshotCompanion | undefined;
}

/** A container, whose files are written to the snapshot of its machine while that stands still. */
export interface SnapshotCompanion {
	/** What `snapshot ls` and `inspect` tell of it. */
	readonly container: { readonly id: string; readonly name: string; readonly image: string };
	/** Writes its files to a directory, which gets the snapshot's name later. */
	write(directory: string): Promise<void>;
}

/** The files of a snapshot that is being written. */
interface Files {
	readonly about: Pick<Manifest, "tsvmm" | "created" | "machine" | "container">;
	readonly companion?: SnapshotCompanion | undefined;
	readonly state: string;
	readonly memory: AsyncIterable<MemoryPart>;
	readonly memoryBytes: number;
	/** When it has one. `pages` is read after `memory`. */
	readonly base?: { readonly path: string; readonly id: string; readonly pages: PageSet };
	/** Its checksums say it when missing. */
	readonly id?: string;
	/** Throws when the work has become pointless. */
	readonly check: () => void;
}

/**
 * Writes a snapshot of a machine.
 *
 * @param path a directory that is not there, or is empty
 * @throws SnapshotError ERR_SNAPSHOT_EXISTS, ERR_SNAPSHOT_BASE for one of another size, ERR_SNAPSHOT_WRITE such as for a disk
 * that is full; the reason of `options.signal`, and what `content.mustLive` throws. Then nothing is left
 */
export async function writeSnapshot(
	path: string,
	content: SnapshotContent,
	base: SnapshotImage | undefined,
	options: Pick<SnapshotOptions, "onProgress" | "signal" | "with"> = {},
): Promise<void> {
	const { tsvmm, machine, memory, memoryBytes } = content;
	const { with: companion } = options;
	const about = { tsvmm, created: new Date().toISOString(), machine, container: companion?.container };
	const check = () => {
		options.signal?.throwIfAborted();
		content.mustLive();
	};
	const onChunk = chunkCounter(memoryBytes, check, options);
	const files = { about, companion, state: stateText(content.state), memoryBytes, check };
	await writing(path, check, async () => {
		if (base === undefined) return writeFiles(path, { ...files, memory: chunksOf(memory, onChunk) });
		if (base.memory.bytes !== memoryBytes) {
			const found = `${base.path} is of a machine with ${base.manifest.machine.memoryMiB} MiB of memory`;
			throw new SnapshotError("ERR_SNAPSHOT_BASE", `Cannot write a snapshot with another one as its base: ${found}`);
		}
		const suspects = base.memory.differences(content.origin);
		suspects.addAll(await content.writtenPages());
		const changed = new PageSet(memoryBytes / PAGE_BYTES);
		await writeFiles(path, {
			...files,
			memory: changedChunks(memory, { base: base.memory, suspects, changed }, onChunk),
			base: { path: base.path, id: base.manifest.id, pages: changed },
		});
	});
}

/**
 * Writes a snapshot and those that it is based on as one that has all of the memory. It has the same id, so it can take the
 * place of the one that it was made of.
 *
 * @param path of the snapshot
 * @param to a directory that is not there, or is empty
 * @throws SnapshotError ERR_SNAPSHOT_* as Machine.restore and Machine.snapshot do; the reason of `options.signal`
 */
export async function mergeSnapshot(path: string, to: string, options: WriteOptions = {}): Promise<void> {
	const image = await SnapshotImage.open(path);
	try {
		const { manifest, stateText: state, memory } = image;
		const { bytes: memoryBytes } = memory;
		const check = () => options.signal?.throwIfAborted();
		const chunks = memory.chunks(chunkCounter(memoryBytes, check, options));
		const { container } = manifest;
		const companion = container && { container, write: (directory: string) => copyContainer(path, directory) };
		await writing(to, check, () =>
			writeFiles(to, { about: manifest, companion, state, memory: chunks, memoryBytes, id: manifest.id, check }),
		);
	} finally {
		await image.close();
	}
}

async function copyContainer(from: string, to: string): Promise<void> {
	for (const file of CONTAINER_FILES) {
		if (existsSync(join(from, file))) await copySparse(join(from, file), join(to, file));
	}
}

function chunkCounter(total: number, check: () => void, { onProgress }: WriteOptions): OnChunk {
	let done = 0;
	return (bytes) => {
		check();
		done += bytes;
		onProgress?.(done, total);
	};
}

async function writing(path: string, check: () => void, write: () => Promise<void>): Promise<void> {
	try {
		check();
		/* Before minutes of work, and after them by the rename. */
		if (await isTaken(path)) throw taken(path);
		await write();
	} catch (cause) {
		check();
		if (cause instanceof SnapshotError) throw cause;
		if (["ENOTEMPTY", "EEXIST"].includes(errnoName(cause) ?? "")) throw taken(path, cause);
		throw new SnapshotError("ERR_SNAPSHOT_WRITE", `Cannot write the snapshot ${path}: ${explain(cause)}`, { cause });
	}
}

/** Whether there is something that is no empty directory. */
async function isTaken(path: string): Promise<boolean> {
	try {
		return (await readdir(path)).length > 0;
	} catch {
		return existsSync(path);
	}
}

function taken(path: string, cause?: unknown): SnapshotError {
	return new SnapshotError("ERR_SNAPSHOT_EXISTS", `Cannot write the snapshot ${path}: something is there already`, {
		hint: `Choose another path, or remove the snapshot that is there: tsvmm snapshot rm ${path}`,
		cause,
	});
}

async function writeFiles(path: string, files: Files): Promise<void> {
	const temporary = temporaryPath(path);
	try {
		await mkdir(temporary);
		const manifest = await writeAll(path, temporary, files);
		await files.companion?.write(temporary);
		const text = `${JSON.stringify(manifest, undefined, "\t")}\n`;
		await withFile(join(temporary, "snapshot.json"), (file) => file.writeFile(text));
		files.check();
		await publish(temporary, path);
	} catch (error) {
		await rm(temporary, { recursive: true, force: true });
		throw error;
	}
}

/** All but snapshot.json. @returns what is to be in it */
async function writeAll(path: string, temporary: string, files: Files): Promise<Manifest> {
	const { about, state, memory, memoryBytes, base } = files;
	const { tsvmm, created, machine, container } = about;
	await withFile(join(temporary, "state"), (file) => file.writeFile(state));
	const sum = await withFile(join(temporary, "memory"), (file) => writeMemory(file, memoryBytes, memory));
	const sums = [sha256(state), sum.sha256];
	if (base !== undefined) {
		await withFile(join(temporary, "pages"), (file) => file.writeFile(base.pages.bits));
		sums.push(sha256(base.pages.bits), base.id);
	}
	return {
		format: FORMAT,
		id: files.id ?? snapshotId(sums),
		tsvmm,
		created,
		machine,
		...(container === undefined ? {} : { container }),
		...(base === undefined
			? {}
			: { base: { path: await pathFrom(path, base.path), id: base.id, pagesSha256: sums[2]! } }),
		state: { bytes: Buffer.byteLength(state), sha256: sums[0]! },
		memory: { bytes: memoryBytes, ...sum, seal: await sealOf(join(temporary, "memory")) },
	};
}

/** The path of `base` as seen from `path`, which is not there yet. */
async function pathFrom(path: string, base: string): Promise<string> {
	return relative(join(await realpath(dirname(path)), basename(path)), await realpath(base));
}

async function withFile<T>(path: string, write: (file: FileHandle) => Promise<T>): Promise<T> {
	const file = await open(path, "wx", 0o600);
	try {
		return await write(file);
	} finally {
		await file.close();
	}
}

async function sealOf(path: string): Promise<Seal> {
	const file = await open(path, "r");
	try {
		return sealFrom(await file.stat({ bigint: true }));
	} finally {
		await file.close();
	}
}
