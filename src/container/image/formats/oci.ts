/*
 * OCI image layout (image-spec 1.1, image-layout.md), in a directory or a tar: oci-layout, index.json and
 * blobs/sha256/HEX. index.json may list several images, told apart by annotations, and each may be an index of
 * platforms.
 */
import { ImageError } from "../../../base/errors.ts";
import type { Archive } from "../archive.ts";
import { type Descriptor, isIndex, parseConfig, parseIndex, parseLayout, parseManifest } from "../documents.ts";
import { malformed } from "../failure.ts";
import type { Staging } from "../staging.ts";
import { type ArchivedImage, digestOf, type LoadedImage, PLATFORM, wrongPlatform } from "./archived-image.ts";

/** How deep an index may nest. Real images have at most one index within another. */
const MAX_DEPTH = 3;

export async function readOciLayout(archive: Archive): Promise<ArchivedImage[]> {
	parseLayout(await archive.read("oci-layout"), "oci-layout");
	const { manifests } = parseIndex(await archive.read("index.json"), "index.json");
	if (manifests.length === 0) throw malformed("index.json", "manifests: it lists no image");
	const groups = new Map<string, Descriptor[]>();
	for (const descriptor of manifests) {
		const name = nameOf(descriptor);
		/* Entries without a name and a platform cannot be told to be one image. */
		const key = name === "" && descriptor.platform === undefined ? descriptor.digest : name;
		const group = groups.get(key);
		if (group === undefined) groups.set(key, [descriptor]);
		else group.push(descriptor);
	}
	/* One image under several names is loaded once. */
	const images = new Map<string, { names: string[]; descriptors: Descriptor[] }>();
	for (const descriptors of groups.values()) {
		const name = nameOf(descriptors[0]!);
		const key = descriptors.map((descriptor) => descriptor.digest).join(" ");
		const image = images.get(key) ?? { names: [], descriptors };
		if (name !== "") image.names.push(name);
		images.set(key, image);
	}
	return [...images.values()].map(({ names, descriptors }) => ({
		names,
		load: (staging) => load(archive, descriptors, staging),
	}));
}

/** containerd and Docker write the whole name, others (skopeo, buildah) only a tag: ":1.0". */
function nameOf({ annotations }: Descriptor): string {
	const whole = annotations?.["io.containerd.image.name"];
	if (whole !== undefined) return whole;
	const ref = annotations?.["org.opencontainers.image.ref.name"] ?? "";
	return ref === "" || /[/:@]/.test(ref) ? ref : `:${ref}`;
}

async function load(archive: Archive, descriptors: readonly Descriptor[], staging: Staging): Promise<LoadedImage> {
	const chosen = await choose(archive, descriptors, 0);
	const file = pathOf(chosen.descriptor);
	const manifest = parseManifest(chosen.data, file);
	const configData = await document(archive, manifest.config);
	const parsed = parseConfig(configData, pathOf(manifest.config));
	const platform = `${parsed.config.os}/${parsed.config.architecture}`;
	if (platform !== PLATFORM) throw wrongPlatform([platform]);
	if (parsed.diffIds.length !== manifest.layers.length) {
		const found = `${parsed.diffIds.length} diff_ids for ${manifest.layers.length} layers`;
		throw malformed(pathOf(manifest.config), `rootfs.diff_ids: ${found}`);
	}
	const layers = [];
	for (const [i, layer] of manifest.layers.entries()) {
		const path = pathOf(layer);
		const blob = await staging.put(await archive.stream(path), path, { digest: layer.digest, sizeBytes: layer.size });
		layers.push({ ...blob, diffId: parsed.diffIds[i] });
	}
	return {
		manifest: await staging.put([chosen.data], file),
		configuration: await staging.put([configData], pathOf(manifest.config)),
		parsed,
		layers,
	};
}

/** Finds the manifest for our platform. A manifest without a platform has the platform of its configuration. */
async function choose(
	archive: Archive,
	descriptors: readonly Descriptor[],
	depth: number,
): Promise<{ descriptor: Descriptor; data: Buffer }> {
	const known = descriptors.filter((d) => d.platform !== undefined && d.platform.os !== "unknown");
	const matching = known.filter((d) => `${d.platform!.os}/${d.platform!.architecture}` === PLATFORM);
	/* linux/amd64/v3 may use instructions that the host lacks, so a manifest without a variant is preferred. */
	const plain = matching.find((d) => d.platform!.variant === undefined);
	const descriptor = plain ?? matching[0] ?? descriptors.find((d) => d.platform === undefined);
	if (descriptor === undefined) {
		const found = known.map(({ platform: p }) => [p!.os, p!.architecture, p!.variant].filter(Boolean).join("/"));
		throw wrongPlatform([...new Set(found)]);
	}
	const data = await document(archive, descriptor);
	if (!isIndex(data)) return { descriptor, data };
	if (depth === MAX_DEPTH) throw malformed(pathOf(descriptor), "too many indexes within each other");
	const { manifests } = parseIndex(data, pathOf(descriptor));
	if (manifests.length === 0) throw malformed(pathOf(descriptor), "manifests: it lists no image");
	return choose(archive, manifests, depth + 1);
}

/** A JSON blob, its size and digest checked. */
async function document(archive: Archive, descriptor: Descriptor): Promise<Buffer> {
	const path = pathOf(descriptor);
	const data = await archive.read(path);
	if (data.length !== descriptor.size) {
		throw malformed(path, `its descriptor's size is ${descriptor.size} bytes, ${data.length} are there`);
	}
	const found = digestOf(data);
	if (found !== descriptor.digest) {
		throw new ImageError(
			"ERR_IMAGE_DIGEST",
			`Cannot import image: ${path} should be ${descriptor.digest}, but its content is ${found}`,
		);
	}
	return data;
}

function pathOf({ digest }: Descriptor): string {
	return `blobs/${digest.replace(":", "/")}`;
}
