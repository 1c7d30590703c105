/*
 * Finds an image's manifest and configuration from its descriptors, through indexes, for one platform. It checks each
 * document's size and digest. An OCI layout and a registry differ only in the source of blobs.
 */
import { ImageError } from "../../../base/errors.ts";
import {
	type Descriptor,
	isIndex,
	type Manifest,
	type ParsedConfig,
	parseConfig,
	parseIndex,
	parseManifest,
} from "../documents.ts";
import { malformed } from "../failure.ts";
import { digestOf, wrongPlatform } from "./archived-image.ts";

export type DocumentKind = "manifest" | "configuration";

export interface DocumentSource {
	/** A manifest (or an index), or a configuration; it is checked here. */
	read(descriptor: Descriptor, kind: DocumentKind): Promise<Buffer>;
	/** What to call a blob in messages. */
	nameOf(descriptor: Descriptor): string;
}

export interface ResolvedImage {
	readonly manifestData: Buffer;
	readonly manifest: Manifest;
	readonly configData: Buffer;
	readonly parsed: ParsedConfig;
}

/** How deep an index may nest. Real images have at most one index within another. */
const MAX_DEPTH = 3;

/**
 * Finds an image's manifest for a platform, and its configuration.
 *
 * @param platform "linux/amd64", or with a variant: "linux/arm/v7"
 * @throws ImageError ERR_IMAGE_PLATFORM, ERR_IMAGE_DIGEST, ERR_IMAGE_MALFORMED
 */
export async function resolveImage(
	source: DocumentSource,
	descriptors: readonly Descriptor[],
	platform: string,
): Promise<ResolvedImage> {
	const { descriptor, data } = await choose(source, descriptors, platform, 0);
	const manifest = parseManifest(data, source.nameOf(descriptor));
	const file = source.nameOf(manifest.config);
	const configData = await document(source, manifest.config, "configuration");
	const parsed = parseConfig(configData, file);
	const found = `${parsed.config.os}/${parsed.config.architecture}`;
	if (found !== platform.split("/").slice(0, 2).join("/")) throw wrongPlatform([found], platform);
	if (parsed.diffIds.length !== manifest.layers.length) {
		const counts = `${parsed.diffIds.length} diff_ids for ${manifest.layers.length} layers`;
		throw malformed(file, `rootfs.diff_ids: ${counts}`);
	}
	return { manifestData: data, manifest, configData, parsed };
}

/** Finds the manifest for the platform. A manifest without a platform has the platform of its configuration. */
async function choose(
	source: DocumentSource,
	descriptors: readonly Descriptor[],
	platform: string,
	depth: number,
): Promise<{ descriptor: Descriptor; data: Buffer }> {
	const known = descriptors.filter((d) => d.platform !== undefined && d.platform.os !== "unknown");
	const [os, architecture, variant] = platform.split("/");
	const matching = known.filter(({ platform: p }) => p!.os === os && p!.architecture === architecture);
	/* linux/amd64/v3 may use instructions that the host lacks, so a manifest without a variant is preferred. */
	const exact = matching.find((d) => d.platform!.variant === variant);
	const any = variant === undefined ? matching[0] : undefined;
	const descriptor = exact ?? any ?? descriptors.find((d) => d.platform === undefined);
	if (descriptor === undefined) {
		const found = known.map(({ platform: p }) => [p!.os, p!.architecture, p!.variant].filter(Boolean).join("/"));
		throw wrongPlatform([...new Set(found)], platform);
	}
	const data = await document(source, descriptor, "manifest");
	if (!isIndex(data)) return { descriptor, data };
	const file = source.nameOf(descriptor);
	if (depth === MAX_DEPTH) throw malformed(file, "too many indexes within each other");
	const { manifests } = parseIndex(data, file);
	if (manifests.length === 0) throw malformed(file, "manifests: it lists no image");
	return choose(source, manifests, platform, depth + 1);
}

/** A JSON blob, its size and digest checked. */
async function document(source: DocumentSource, descriptor: Descriptor, kind: DocumentKind): Promise<Buffer> {
	const file = source.nameOf(descriptor);
	const data = await source.read(descriptor, kind);
	if (data.length !== descriptor.size) {
		throw malformed(file, `its descriptor's size is ${descriptor.size} bytes, ${data.length} are there`);
	}
	const found = digestOf(data);
	if (found !== descriptor.digest) {
		throw new ImageError(
			"ERR_IMAGE_DIGEST",
			`Cannot import image: ${file} should be ${descriptor.digest}, but its content is ${found}`,
		);
	}
	return data;
}
