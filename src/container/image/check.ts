/*
 * Checks an image before it becomes visible. Merging the layers finds bad paths and damaged archives now, and not only
 * at the first run.
 */
import type { ImageBudget } from "./budget.ts";
import type { StoredImage } from "./config.ts";
import type { LoadedImage } from "./formats/archived-image.ts";
import { type UnpackedLayer, withLayers } from "./layer-file.ts";
import { measureTree, mergeLayers } from "./layers.ts";
import type { Pace } from "./pace.ts";
import type { Staging } from "./staging.ts";

export interface CheckOptions {
	readonly budget: ImageBudget;
	readonly pace: Pace;
	readonly signal: AbortSignal | undefined;
}

/**
 * The store's record of an image whose blobs are there.
 *
 * @throws ImageError for what is wrong with its layers; the signal's reason
 */
export async function checkImage(
	staging: Staging,
	{ manifest, configuration, parsed, layers }: LoadedImage,
	{ budget, pace, signal }: CheckOptions,
): Promise<StoredImage> {
	const check = async (open: readonly UnpackedLayer[]): Promise<StoredImage> => {
		const contents = open.map(() => 0);
		const tree = await mergeLayers(open, budget, pace, (source, entry) => {
			if (entry.type === "file") contents[source]! += entry.size;
		});
		return {
			digest: manifest.digest,
			id: configuration.digest,
			created: parsed.created,
			sizeBytes: (await measureTree(tree, budget, pace)).sizeBytes,
			layers: layers.map(({ digest, sizeBytes }, i) => ({
				digest,
				sizeBytes,
				diffId: open[i]!.diffId,
				contentBytes: contents[i]!,
			})),
			config: parsed.config,
		};
	};
	return withLayers(staging, layers, check, { budget, signal });
}
