/*
 * OCI image layout (image-spec 1.1, image-layout.md), in a directory or a tar: oci-layout, index.json and
 * blobs/sha256/HEX. index.json may list several images, told apart by annotations, and each may be an index of
 * platforms.
 */
import type { Archive } from "../archive.ts";
import { type Descriptor, parseIndex, parseLayout } from "../documents.ts";
import { malformed } from "../failure.ts";
import type { Staging } from "../staging.ts";
import { type ArchivedImage, type LoadedImage, PLATFORM } from "./archived-image.ts";
import { resolveImage } from "./resolve.ts";

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
	const source = { read: (descriptor: Descriptor) => archive.read(pathOf(descriptor)), nameOf: pathOf };
	const { manifestData, manifest, configData, parsed } = await resolveImage(source, descriptors, PLATFORM);
	const layers = [];
	for (const [i, layer] of manifest.layers.entries()) {
		const path = pathOf(layer);
		const blob = await staging.put(await archive.stream(path), path, { digest: layer.digest, sizeBytes: layer.size });
		layers.push({ ...blob, diffId: parsed.diffIds[i] });
	}
	return {
		manifest: await staging.put([manifestData], "manifest"),
		configuration: await staging.put([configData], pathOf(manifest.config)),
		parsed,
		layers,
	};
}

function pathOf({ digest }: Descriptor): string {
	return `blobs/${digest.replace(":", "/")}`;
}
