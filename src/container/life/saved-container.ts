/*
 * A container in the snapshot of its machine (docs/snapshots.md#containers): beside the machine's files are
 *
 *     container.json    what it is, what it has of the host, and the sessions that its agent holds
 *     writable.img      a copy of its writable layer
 *
 * The image is the store's, and volumes and directories of the host stay where they are. What a restore needs is looked at
 * before anything is made.
 */
import { existsSync, statSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { type HeldSession, readHeldSessions } from "../../agent/held-session.ts";
import { SnapshotError, StateError } from "../../base/errors.ts";
import * as z from "../../base/schema.ts";
import { StateReader } from "../../base/state.ts";
import { copySparse } from "../../host/sparse-copy.ts";
import { reading } from "../../snapshot/manifest.ts";
import type { SnapshotCompanion } from "../../snapshot/write.ts";
import { openRootfs } from "../image/rootfs.ts";
import { ImageStore } from "../image/store.ts";
import { attachmentName, ContainerConfig } from "./config.ts";
import type { StoredContainer } from "./store.ts";

const MOST_SESSIONS = 100_000;

const SavedContainer = z.object({
	version: z.literal(1),
	config: ContainerConfig,
	/** The file of its root: one that is built anew may differ, and the guest has parts of it in its memory. */
	rootfs: z.object({ file: z.string(), bytes: z.number() }),
	/** Number of its process in the guest. */
	pid: z.int().check(z.minimum(1)),
	sessions: z.array(z.unknown()).check(z.maxLength(MOST_SESSIONS)),
});

export interface SavedContainer extends Omit<z.infer<typeof SavedContainer>, "sessions"> {
	readonly sessions: readonly HeldSession[];
}

/** The process of a container that is saved, and all sessions of its agent. */
export interface HeldContainer {
	readonly pid: number;
	readonly sessions: readonly HeldSession[];
}

/**
 * What goes into the snapshot of a container's machine.
 *
 * @throws StateError ERR_SNAPSHOT_CONTAINER for a container that cannot be restored
 */
export async function companionOf(stored: StoredContainer, held: HeldContainer): Promise<SnapshotCompanion> {
	const { config, paths } = stored.reload();
	const { id, name, image } = config;
	const rootfs = await rootfsOf(config);
	const saved = { version: 1, config, rootfs, ...held };
	return {
		container: { id, name, image: image.name },
		write: async (directory) => {
			await writeFile(join(directory, "container.json"), `${JSON.stringify(saved, undefined, "\t")}\n`, {
				mode: 0o600,
			});
			await copySparse(paths.writable, join(directory, "writable.img"));
		},
	};
}

/** @throws StateError ERR_SNAPSHOT_CONTAINER when a snapshot of the container would be of no use */
export function mustBeSavable({ config, shortId }: StoredContainer): void {
	const network = (config.network?.attachments ?? []).find(({ device }) => device.kind !== "user");
	const found =
		config.joins !== undefined
			? `it is in the machine of ${config.joins.kind} ${config.joins.id.slice(0, 12)}`
			: network !== undefined
				? `two machines would have its address on network ${attachmentName(network)}`
				: (config.devices ?? []).length > 0
					? "it has a device of the host, of which there is no copy"
					: undefined;
	if (found === undefined) return;
	throw new StateError("ERR_SNAPSHOT_CONTAINER", `Cannot take a snapshot of container ${shortId}: ${found}`);
}

/** @throws SnapshotError ERR_SNAPSHOT_MISSING, ERR_SNAPSHOT_FORMAT, ERR_STATE_FORMAT */
export async function readSavedContainer(path: string): Promise<SavedContainer> {
	const text = await reading(path, () => readFile(join(path, "container.json"), "utf8"));
	try {
		const { sessions, ...saved } = SavedContainer.parse(JSON.parse(text));
		const readers = new StateReader("container.json", { sessions }).list("sessions", 1, MOST_SESSIONS);
		const held = readHeldSessions(readers);
		if (held.filter(({ role }) => role === "main").length !== 1) throw new SyntaxError("it has no process");
		return { ...saved, sessions: held };
	} catch (cause) {
		if (!(cause instanceof z.ZodError || cause instanceof SyntaxError)) throw cause;
		throw new SnapshotError("ERR_SNAPSHOT_FORMAT", `Cannot use the snapshot ${path}: container.json is damaged`, {
			cause,
		});
	}
}

/**
 * Checks that what the container had of this host is there.
 *
 * @throws ImageError ERR_IMAGE_NOT_FOUND; SnapshotError ERR_SNAPSHOT_HOST
 */
export async function checkHost(path: string, { config, rootfs }: SavedContainer): Promise<void> {
	for (const { source, volume } of config.mounts) {
		if (existsSync(source)) continue;
		throw lacks(path, volume === undefined ? `${source} is not there` : `volume ${volume} is not there`);
	}
	const { file, bytes } = await rootfsOf(config);
	if (file === rootfs.file && bytes === rootfs.bytes) return;
	throw lacks(path, `the root file system of image ${config.image.name} was built anew since`);
}

async function rootfsOf(config: ContainerConfig): Promise<SavedContainer["rootfs"]> {
	const store = new ImageStore();
	await using rootfs = await openRootfs(store, store.find(config.image.digest), {});
	return { file: basename(rootfs.path), bytes: statSync(rootfs.path).size };
}

function lacks(path: string, what: string): SnapshotError {
	return new SnapshotError("ERR_SNAPSHOT_HOST", `Cannot restore the container of the snapshot ${path}: ${what}`);
}
