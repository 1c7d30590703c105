/*
 * A snapshot of a machine is a directory:
 *
 *     snapshot.json   what it is of, and the checksums of the others (manifest.ts)
 *     state           vCPUs, interrupt controllers and devices (state-text.ts)
 *     memory          RAM, a sparse file (memory-file.ts)
 *     pages           with a base: which pages "memory" has; the base has the others (layers.ts)
 *
 * It appears whole or not at all. It is never changed.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { damaged, Layers, sha256 } from "./layers.ts";
import { type Manifest, reading, readManifest } from "./manifest.ts";
import { parseState } from "./state-text.ts";

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
		return new SnapshotImage(path, { manifest, stateText: text, state, memory: await Layers.open(path, manifest) });
	}

	private constructor(path: string, parts: Pick<SnapshotImage, "manifest" | "stateText" | "state" | "memory">) {
		this.path = path;
		this.manifest = parts.manifest;
		this.stateText = parts.stateText;
		this.state = parts.state;
		this.memory = parts.memory;
	}

	async close(): Promise<void> {
		await this.memory.close();
	}
}
