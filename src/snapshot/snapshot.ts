/*
 * A snapshot of a machine is a directory:
 *
 *     snapshot.json   what it is of, and the checksums of the others (manifest.ts)
 *     state           vCPUs, interrupt controllers and devices (state-text.ts)
 *     memory          RAM, a sparse file (memory-file.ts)
 *     pages           with a base: which pages "memory" has; the base has the others (layers.ts)
 *
 * It appears whole or not at all. It is never changed, but for what its first machine leaves beside it: working-set, advice
 * what to read ahead (working-set.ts).
 */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { PageRun, PageSet } from "../base/page-set.ts";
import { damaged, Layers, sha256 } from "./layers.ts";
import { type Manifest, reading, readManifest } from "./manifest.ts";
import { parseState } from "./state-text.ts";
import { readWorkingSet, writeWorkingSet } from "./working-set.ts";

/** A snapshot that is being read. Its owner closes it. */
export class SnapshotImage {
	readonly path: string;
	readonly manifest: Manifest;
	/** The file `state`. */
	readonly stateText: string;
	/** What it says; its fields are not checked. */
	readonly state: unknown;
	/** RAM. */
	readonly memory: Layers;
	/** What its first machine has used; undefined when that is not known. */
	readonly workingSet: readonly PageRun[] | undefined;

	/**
	 * Opens a snapshot and checks it by its checksums, and so those that it is based on.
	 *
	 * @throws SnapshotError ERR_SNAPSHOT_MISSING, ERR_SNAPSHOT_FORMAT, ERR_SNAPSHOT_VERSION, ERR_SNAPSHOT_DAMAGED,
	 * ERR_SNAPSHOT_BASE
	 */
	static async open(path: string): Promise<SnapshotImage> {
		const manifest = await readManifest(path);
		const text = await reading(path, () => readFile(join(path, "state"), "utf8"));
		if (Buffer.byteLength(text) !== manifest.state.bytes || sha256(text) !== manifest.state.sha256)
			throw damaged(path, "state");
		const state = parseState(text);
		const workingSet = await readWorkingSet(path, manifest);
		const memory = await Layers.open(path, manifest);
		return new SnapshotImage(path, { manifest, stateText: text, state, memory, workingSet });
	}

	private constructor(path: string, parts: Omit<SnapshotImage, "path" | "keepWorkingSet" | "close">) {
		this.path = path;
		this.manifest = parts.manifest;
		this.stateText = parts.stateText;
		this.state = parts.state;
		this.memory = parts.memory;
		this.workingSet = parts.workingSet;
	}

	/**
	 * Writes its working set, if its directory is this user's.
	 *
	 * @param used gives the pages
	 * @throws what writing it says, and what `used` throws
	 */
	async keepWorkingSet(used: () => Promise<PageSet>): Promise<void> {
		if ((await stat(this.path)).uid === process.geteuid?.())
			await writeWorkingSet(this.path, this.manifest, await used());
	}

	async close(): Promise<void> {
		await this.memory.close();
	}
}
