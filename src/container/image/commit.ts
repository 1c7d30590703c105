/*
 * Makes an image of another one and one more layer, for commit. The new image has its parent's blobs, so it takes only the
 * room of the layer.
 */
import { readFile } from "node:fs/promises";
import { explain, HostError, UsageError } from "../../base/errors.ts";
import { ImageBudget } from "./budget.ts";
import { checkImage } from "./check.ts";
import type { StoredImage } from "./config.ts";
import { parseConfig } from "./documents.ts";
import { MEDIA } from "./formats/archived-image.ts";
import { Pace } from "./pace.ts";
import { formatReference, parseReference } from "./reference.ts";
import type { ImageStore } from "./store.ts";

/** The part of a configuration that says how containers start, with OCI's names. */
export type RunConfig = Record<string, unknown>;

export interface CommitOptions {
	parent: StoredImage;
	/** An uncompressed tar. */
	layer: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
	/** NAME[:TAG]; none when missing. */
	name?: string | undefined;
	author: string;
	comment: string;
	/** For `history`: the container's command. */
	createdBy: string;
	/** The new image's, made of its parent's. */
	change: (config: RunConfig) => RunConfig;
}

interface Raw {
	mediaType?: string;
	config?: unknown;
	layers?: unknown[];
	history?: { empty_layer?: boolean }[] | null;
	created?: string;
	rootfs?: { diff_ids?: string[] };
}

const DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar";

/** @throws ImageError for a layer that is none; HostError ERR_STORE_READ, ERR_STORE_FULL; UsageError ERR_IMAGE_REFERENCE */
export async function commitImage(store: ImageStore, options: CommitOptions): Promise<StoredImage> {
	const { parent, layer, author, comment, createdBy, change } = options;
	const names = options.name === undefined ? [] : [formatReference(taggable(options.name))];
	const staging = await store.stage();
	try {
		const manifest = await document(store, parent.digest);
		const raw = await document(store, parent.id);
		const blob = await staging.put(layer, "the container's changes");
		const created = new Date().toISOString();
		const who = author === "" ? {} : { author };
		const why = comment === "" ? {} : { comment };
		const history = wholeHistory(raw, parent.layers.length);
		const data = Buffer.from(
			JSON.stringify({
				...raw,
				created,
				...who,
				config: change((raw.config ?? {}) as RunConfig),
				rootfs: { type: "layers", diff_ids: [...parent.layers.map(({ diffId }) => diffId), blob.digest] },
				history: [...history, { created, created_by: createdBy, ...who, ...why }],
			}),
		);
		const configuration = await staging.put([data], "the configuration");
		const isDocker = manifest.mediaType?.startsWith("application/vnd.docker.") === true;
		const part = { digest: blob.digest, size: blob.sizeBytes };
		const whole = {
			...manifest,
			config: {
				...(manifest.config as object),
				digest: configuration.digest,
				size: configuration.sizeBytes,
			},
			layers: [...(manifest.layers ?? []), { mediaType: isDocker ? DOCKER_LAYER : MEDIA.layer, ...part }],
		};
		const loaded = {
			manifest: await staging.put([Buffer.from(JSON.stringify(whole))], "the manifest"),
			configuration,
			parsed: parseConfig(data, "the configuration"),
			layers: [...parent.layers, { ...blob, diffId: blob.digest }],
		};
		const budget = new ImageBudget();
		for (const { sizeBytes } of loaded.layers) budget.addInput(sizeBytes);
		const image = await checkImage(staging, loaded, { budget, pace: new Pace(undefined), signal: undefined });
		await staging.commit([{ image, names }]);
		return image;
	} finally {
		await staging.discard();
	}
}

/** An image need not tell its history. The next layer's comes after something for each that there is. */
function wholeHistory({ history, created }: Raw, layers: number): readonly unknown[] {
	const steps = history ?? [];
	const told = steps.filter((step) => step.empty_layer !== true).length;
	return [...steps, ...Array.from({ length: Math.max(0, layers - told) }, () => ({ created }))];
}

function taggable(name: string) {
	const reference = parseReference(name);
	if (reference.digest === undefined) return reference;
	throw new UsageError("ERR_IMAGE_REFERENCE", `Cannot name the image "${name}": a digest cannot be chosen`);
}

async function document(store: ImageStore, digest: string): Promise<Raw> {
	try {
		return JSON.parse(await readFile(store.blobPath(digest), "utf8")) as Raw;
	} catch (cause) {
		throw new HostError("ERR_STORE_READ", `Cannot read ${store.blobPath(digest)}: ${explain(cause)}`, {
			hint: "Import or pull the image again",
			cause,
		});
	}
}
