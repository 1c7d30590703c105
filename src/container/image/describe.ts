/*
 * What `image inspect` and `history` tell of an image, in Docker's words: from the store's record, and from the image's own
 * manifest and configuration, of which fields are passed on that nothing else here reads.
 */
import { readFile } from "node:fs/promises";
import { explain, HostError } from "../../base/errors.ts";
import type { StoredImage } from "./config.ts";
import type { ImageStore, NamedImage } from "./store.ts";

interface RawHistory {
	created?: string;
	created_by?: string;
	comment?: string;
	author?: string;
	empty_layer?: boolean;
}

interface RawConfig {
	author?: string;
	comment?: string;
	variant?: string;
	config?: Record<string, unknown> | null;
	history?: RawHistory[] | null;
}

/** One step of the making of an image. */
export interface HistoryStep {
	/** RFC 3339; undefined when the image does not say. */
	readonly created: string | undefined;
	readonly createdBy: string;
	readonly comment: string;
	readonly sizeBytes: number;
}

/** An image as `docker image inspect` shows it. */
export async function describeImage(store: ImageStore, image: NamedImage): Promise<Record<string, unknown>> {
	const raw = (await readBlob(store, image.id)) as RawConfig;
	const manifest = (await readBlob(store, image.digest)) as { mediaType?: string };
	return {
		Id: image.id,
		RepoTags: image.names,
		RepoDigests: image.repoDigests,
		Comment: raw.comment ?? raw.history?.at(-1)?.comment ?? "",
		Created: image.created ?? "",
		Author: raw.author ?? "",
		Architecture: image.config.architecture,
		...(raw.variant === undefined ? {} : { Variant: raw.variant }),
		Os: image.config.os,
		Size: image.sizeBytes,
		RootFS: { Type: "layers", Layers: image.layers.map((layer) => layer.diffId) },
		Descriptor: { mediaType: manifest.mediaType ?? "", digest: image.digest },
		Config: {
			User: image.config.user,
			Env: image.config.env,
			Cmd: orNull(image.config.cmd),
			WorkingDir: image.config.workingDir,
			Entrypoint: orNull(image.config.entrypoint),
			Labels: image.config.labels,
			...raw.config,
		},
	};
}

/** How an image came to be, the last step first. */
export async function historyOf(store: ImageStore, image: StoredImage): Promise<HistoryStep[]> {
	const { history } = (await readBlob(store, image.id)) as RawConfig;
	const sizes = image.layers.map(({ contentBytes, sizeBytes }) => contentBytes ?? sizeBytes);
	let layer = 0;
	const steps: HistoryStep[] = [];
	for (const step of history ?? []) {
		const sizeBytes = step.empty_layer === true ? 0 : (sizes[layer++] ?? 0);
		const { created, created_by: createdBy = "", comment = "" } = step;
		steps.push({ created, createdBy, comment, sizeBytes });
	}
	/* Layers that the history does not tell of. */
	for (const sizeBytes of sizes.slice(layer))
		steps.push({ created: image.created, createdBy: "", comment: "", sizeBytes });
	return steps.reverse();
}

function orNull<T>(list: readonly T[]): readonly T[] | null {
	return list.length === 0 ? null : list;
}

async function readBlob(store: ImageStore, digest: string): Promise<unknown> {
	const path = store.blobPath(digest);
	try {
		return JSON.parse(await readFile(path, "utf8"));
	} catch (error) {
		throw new HostError("ERR_STORE_READ", `Cannot read ${path}: ${explain(error)}`, {
			hint: "Import or pull the image again",
			cause: error,
		});
	}
}
