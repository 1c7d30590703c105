/*
 * Images as one archive for `load`, Docker, podman, skopeo and containerd: an OCI layout, which has every manifest as it
 * is, with Docker's manifest.json beside it for those who know nothing else.
 */
import { open } from "node:fs/promises";
import { explain, HostError } from "../../base/errors.ts";
import { fullName } from "../registry/location.ts";
import type { StoredImage } from "./config.ts";
import { MEDIA } from "./formats/archived-image.ts";
import { formatReference, parseReference } from "./reference.ts";
import type { ImageStore } from "./store.ts";
import { padding, tarEnd, tarHeader } from "./tar/write.ts";

/** An image that is saved, and the names that it has in the archive. */
interface Saved {
	readonly image: StoredImage;
	readonly names: readonly string[];
}

const CHUNK_BYTES = 1024 * 1024;

/**
 * The archive, in pieces. An image that is given by name has this name in it, one that is given by ID none.
 *
 * @param texts names or IDs, as ImageStore.find takes them
 * @throws ImageError ERR_IMAGE_NOT_FOUND before the first piece; HostError ERR_STORE_READ
 */
export async function* saveImages(store: ImageStore, texts: readonly string[]): AsyncGenerator<Buffer> {
	const saved = new Map<string, { image: StoredImage; names: string[] }>();
	for (const text of texts) {
		const image = store.find(text);
		const entry = saved.get(image.digest) ?? { image, names: [] };
		saved.set(image.digest, entry);
		if (!store.isName(text)) continue;
		const name = formatReference(parseReference(text));
		if (!entry.names.includes(name)) entry.names.push(name);
	}
	const images = [...saved.values()];
	const blobs = images.flatMap(({ image }) => [image.digest, image.id, ...image.layers.map((layer) => layer.digest)]);
	yield* document("oci-layout", { imageLayoutVersion: "1.0.0" });
	const paths = [...new Set(blobs)].sort();
	for (const directory of ["blobs/", "blobs/sha256/"]) yield header(directory, 0);
	for (const digest of paths) yield* blob(store, digest);
	yield* document("index.json", await index(store, images));
	yield* document("manifest.json", images.map(dockerManifest));
	yield tarEnd();
}

async function index(store: ImageStore, images: readonly Saved[]) {
	const manifests = [];
	for (const { image, names } of images) {
		const handle = await openBlob(store, image.digest);
		const data = await handle.readFile("utf8").finally(() => handle.close());
		const { mediaType = MEDIA.manifest } = JSON.parse(data) as { mediaType?: string };
		const { os, architecture } = image.config;
		const descriptor = { mediaType, digest: image.digest, size: Buffer.byteLength(data) };
		const entries = names.length === 0 ? [undefined] : names;
		for (const name of entries) {
			const reference = name === undefined ? undefined : parseReference(name);
			manifests.push({
				...descriptor,
				platform: { architecture, os },
				...(reference === undefined
					? {}
					: {
							annotations: {
								"io.containerd.image.name": fullName(reference),
								"org.opencontainers.image.ref.name": reference.tag,
							},
						}),
			});
		}
	}
	return { schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests };
}

function dockerManifest({ image, names }: Saved) {
	return {
		Config: pathOf(image.id),
		RepoTags: names.length === 0 ? null : names,
		Layers: image.layers.map((layer) => pathOf(layer.digest)),
	};
}

function pathOf(digest: string): string {
	return `blobs/${digest.replace(":", "/")}`;
}

function header(path: string, size: number): Buffer {
	const type = path.endsWith("/") ? ("directory" as const) : ("file" as const);
	const mode = type === "directory" ? 0o755 : 0o644;
	const rest = { uid: 0, gid: 0, mtime: 0, target: "", major: 0, minor: 0, xattrs: new Map() };
	return tarHeader({ path, type, mode, size, ...rest });
}

function* document(path: string, value: unknown): Generator<Buffer> {
	const data = Buffer.from(JSON.stringify(value));
	yield header(path, data.length);
	yield data;
	yield padding(data.length);
}

async function openBlob(store: ImageStore, digest: string) {
	return open(store.blobPath(digest), "r").catch((error: unknown) => {
		throw new HostError("ERR_STORE_READ", `Cannot read ${store.blobPath(digest)}: ${explain(error)}`, {
			hint: "Import or pull the image again",
			cause: error,
		});
	});
}

async function* blob(store: ImageStore, digest: string): AsyncGenerator<Buffer> {
	const handle = await openBlob(store, digest);
	try {
		const { size } = await handle.stat();
		yield header(pathOf(digest), size);
		for await (const chunk of handle.createReadStream({ autoClose: false, highWaterMark: CHUNK_BYTES })) {
			yield chunk as Buffer;
		}
		yield padding(size);
	} finally {
		await handle.close();
	}
}
