/*
 * What a format's reader gives to the importer: the images of the archive, each with its names and a function that
 * writes its blobs to the store.
 */
import { createHash } from "node:crypto";
import { ImageError } from "../../../base/errors.ts";
import type { ParsedConfig } from "../documents.ts";
import type { LayerBlob } from "../layer-file.ts";
import type { Blob, Staging } from "../staging.ts";

export interface ArchivedImage {
	/** As the archive has them, not normalised. ":TAG" is a tag without a repository. */
	readonly names: readonly string[];
	/** Writes manifest, configuration and layers. Nothing is visible before the importer commits. */
	load(staging: Staging): Promise<LoadedImage>;
}

export interface LoadedImage {
	readonly manifest: Blob;
	readonly configuration: Blob;
	readonly parsed: ParsedConfig;
	readonly layers: readonly (Blob & LayerBlob)[];
}

export const PLATFORM = "linux/amd64";

/** @throws ImageError ERR_IMAGE_PLATFORM naming what was there */
export function wrongPlatform(found: readonly string[], platform = PLATFORM): ImageError {
	return new ImageError(
		"ERR_IMAGE_PLATFORM",
		`Cannot import image: it is for ${found.length === 0 ? "no platform" : found.join(", ")}, not for ${platform}`,
		{ hint: `Pull or build it for ${platform}` },
	);
}

export const MEDIA = {
	manifest: "application/vnd.oci.image.manifest.v1+json",
	config: "application/vnd.oci.image.config.v1+json",
	layer: "application/vnd.oci.image.layer.v1.tar",
};

/** Makes a manifest for blobs that came without one. The same blobs give the same bytes. */
export function makeManifest(configuration: Blob, layers: readonly Blob[]): Buffer {
	const part = (mediaType: string, blob: Blob) => ({ mediaType, digest: blob.digest, size: blob.sizeBytes });
	return Buffer.from(
		JSON.stringify({
			schemaVersion: 2,
			mediaType: MEDIA.manifest,
			config: part(MEDIA.config, configuration),
			layers: layers.map((layer) => part(MEDIA.layer, layer)),
		}),
	);
}

export function digestOf(data: Uint8Array): string {
	return `sha256:${createHash("sha256").update(data).digest("hex")}`;
}
