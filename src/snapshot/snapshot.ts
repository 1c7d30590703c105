/*
 * A snapshot of a machine is a directory with three files:
 *
 *     snapshot.json   what it is of, and the checksums of the others (manifest.ts)
 *     state           vCPUs, interrupt controllers and devices (state-text.ts)
 *     memory          RAM, a sparse file (memory-file.ts)
 *
 * It appears whole or not at all. It is never changed.
 */
import { createHash } from "node:crypto";
import type { BigIntStats } from "node:fs";
import { type FileHandle, mkdir, open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { errnoName, explain, SnapshotError } from "../base/errors.ts";
import type { SavedState } from "../base/state.ts";
import { publish, temporaryPath } from "../host/durable-file.ts";
import { FORMAT, type Manifest, parseManifest, type Seal } from "./manifest.ts";
import { type MemoryPart, sumMemory, writeMemory } from "./memory-file.ts";
import { parseState, stateText } from "./state-text.ts";

/** What is to be kept. */
export interface SnapshotContent {
	readonly tsvmm: string;
	readonly machine: Manifest["machine"];
	readonly state: SavedState;
	readonly memory: readonly MemoryPart[];
	/** Of the file with the memory. */
	readonly memoryBytes: number;
}

/** Options of Machine.snapshot. */
export interface SnapshotOptions {
	/** Called now and then with the bytes of memory that were looked at, and all of them. */
	onProgress?: ((done: number, total: number) => void) | undefined;
}

/** Options of `writeSnapshot`. */
export interface WriteOptions extends SnapshotOptions {
	/** Throws a StateError when the machine has ended: its memory was gone before all of it was written. */
	mustLive: () => void;
}

/**
 * Writes a snapshot.
 *
 * @param path a directory that is not there, or is empty
 * @throws SnapshotError ERR_SNAPSHOT_EXISTS, ERR_SNAPSHOT_WRITE such as for a disk that is full; what `mustLive` throws; then
 *   nothing is left
 */
export async function writeSnapshot(
	path: string,
	content: SnapshotContent,
	{ onProgress, mustLive }: WriteOptions,
): Promise<Manifest> {
	const temporary = temporaryPath(path);
	try {
		await mkdir(temporary);
		const state = stateText(content.state);
		await writeFileWith(join(temporary, "state"), (file) => file.writeFile(state));
		let done = 0;
		const seen = (bytes: number) => {
			done += bytes;
			onProgress?.(done, content.memoryBytes);
		};
		const sum = await writeFileWith(join(temporary, "memory"), (file) =>
			writeMemory(file, content.memory, content.memoryBytes, seen),
		);
		const manifest: Manifest = {
			format: FORMAT,
			tsvmm: content.tsvmm,
			created: new Date().toISOString(),
			machine: content.machine,
			state: { bytes: Buffer.byteLength(state), sha256: sha256(state) },
			memory: { bytes: content.memoryBytes, ...sum, seal: await sealOf(join(temporary, "memory")) },
		};
		const text = `${JSON.stringify(manifest, undefined, "\t")}\n`;
		await writeFileWith(join(temporary, "snapshot.json"), (file) => file.writeFile(text));
		mustLive();
		await publish(temporary, path);
		return manifest;
	} catch (cause) {
		await rm(temporary, { recursive: true, force: true });
		mustLive();
		const isThere = ["ENOTEMPTY", "EEXIST", "ENOTDIR"].includes(errnoName(cause) ?? "");
		const code = isThere ? "ERR_SNAPSHOT_EXISTS" : "ERR_SNAPSHOT_WRITE";
		throw new SnapshotError(code, `Cannot write the snapshot ${path}: ${explain(cause)}`, { cause });
	}
}

/** A snapshot that is being read. Its owner closes it. */
export class SnapshotImage {
	readonly path: string;
	readonly manifest: Manifest;
	/** What `state` says; its fields are not checked. */
	readonly state: unknown;
	readonly #memory: FileHandle;

	/**
	 * Opens a snapshot and checks it by its checksums.
	 *
	 * @throws SnapshotError ERR_SNAPSHOT_MISSING, ERR_SNAPSHOT_FORMAT, ERR_SNAPSHOT_VERSION, ERR_SNAPSHOT_DAMAGED
	 */
	static async open(path: string): Promise<SnapshotImage> {
		const manifest = await readManifest(path);
		const text = await reading(path, () => readFile(join(path, "state"), "utf8"));
		if (Buffer.byteLength(text) !== manifest.state.bytes || sha256(text) !== manifest.state.sha256)
			throw damaged(path, "state");
		const memory = await reading(path, () => open(join(path, "memory"), "r"));
		try {
			const image = new SnapshotImage(path, manifest, parseState(text), memory);
			await reading(path, () => image.#check());
			return image;
		} catch (error) {
			await memory.close();
			throw error;
		}
	}

	private constructor(path: string, manifest: Manifest, state: unknown, memory: FileHandle) {
		this.path = path;
		this.manifest = manifest;
		this.state = state;
		this.#memory = memory;
	}

	/** The descriptor of the file with the memory, until `close`. */
	get memoryFd(): number {
		return this.#memory.fd;
	}

	async close(): Promise<void> {
		await this.#memory.close();
	}

	/** A file with its seal is as it was written; another one, such as a copy, is read as a whole. */
	async #check(): Promise<void> {
		const { bytes, sha256: wanted, seal } = this.manifest.memory;
		const found = sealFrom(await this.#memory.stat({ bigint: true }));
		if (found.size !== bytes) throw damaged(this.path, "memory");
		if (Object.entries(seal).every(([field, value]) => found[field as keyof Seal] === value)) return;
		if ((await sumMemory(this.#memory, bytes)).sha256 !== wanted) throw damaged(this.path, "memory");
	}
}

/** What a snapshot says about itself. @throws SnapshotError as SnapshotImage.open */
export async function readManifest(path: string): Promise<Manifest> {
	return parseManifest(path, await reading(path, () => readFile(join(path, "snapshot.json"), "utf8")));
}

async function reading<T>(path: string, read: () => Promise<T>): Promise<T> {
	try {
		return await read();
	} catch (cause) {
		if (cause instanceof SnapshotError) throw cause;
		throw new SnapshotError("ERR_SNAPSHOT_MISSING", `Cannot read the snapshot ${path}: ${explain(cause)}`, { cause });
	}
}

async function writeFileWith<T>(path: string, write: (file: FileHandle) => Promise<T>): Promise<T> {
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

function sealFrom({ dev, ino, size, ctimeNs }: BigIntStats): Seal {
	return { device: `${dev}`, inode: `${ino}`, size: Number(size), changedNs: `${ctimeNs}` };
}

function sha256(text: string): string {
	return createHash("sha256").update(text).digest("hex");
}

function damaged(path: string, file: string): SnapshotError {
	const message = `Cannot use the snapshot ${path}: ${file} is not what was written`;
	return new SnapshotError("ERR_SNAPSHOT_DAMAGED", message, { hint: "Use another snapshot" });
}
