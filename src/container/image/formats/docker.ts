/*
 * Reads docker-archives, which older versions of `docker save` wrote and podman still writes. manifest.json lists
 * images, each with the paths of its configuration and layers. Layers have no digest, so the configuration's diff_ids
 * check them.
 */
import type { Archive } from "../archive.ts";
import { type ArchiveManifest, parseArchiveManifest, parseConfig } from "../documents.ts";
import { malformed } from "../failure.ts";
import type { Staging } from "../staging.ts";
import { type ArchivedImage, type LoadedImage, makeManifest, PLATFORM, wrongPlatform } from "./archived-image.ts";

const FILE = "manifest.json";

export async function readDockerArchive(archive: Archive): Promise<ArchivedImage[]> {
	const images = parseArchiveManifest(await archive.read(FILE), FILE);
	return images.map((image) => ({
		names: image.RepoTags ?? [],
		load: (staging) => load(archive, image, staging),
	}));
}

async function load(archive: Archive, image: ArchiveManifest[number], staging: Staging): Promise<LoadedImage> {
	const data = await archive.read(image.Config);
	const parsed = parseConfig(data, image.Config);
	const platform = `${parsed.config.os}/${parsed.config.architecture}`;
	if (platform !== PLATFORM) throw wrongPlatform([platform]);
	const paths = image.Layers ?? [];
	if (parsed.diffIds.length !== paths.length) {
		throw malformed(image.Config, `rootfs.diff_ids: ${parsed.diffIds.length} for ${paths.length} layers`);
	}
	const layers = [];
	for (const [i, path] of paths.entries()) {
		layers.push({ ...(await staging.put(await archive.stream(path), path)), diffId: parsed.diffIds[i] });
	}
	const configuration = await staging.put([data], image.Config);
	const manifest = await staging.put([makeManifest(configuration, layers)], "manifest");
	return { manifest, configuration, parsed, layers };
}
