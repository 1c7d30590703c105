/*
 * Opens layers as uncompressed files. A plain tar is the blob itself. Any other blob is unpacked into a scratch file
 * without a name, and its digest is compared with the configuration's diff_id.
 */
import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { ImageError } from "../../base/errors.ts";
import type { ImageBudget } from "./budget.ts";
import { decompress, layerCompression } from "./decompress.ts";
import { malformed } from "./failure.ts";
import type { OpenLayer } from "./layers.ts";
import { chunks, type FileRange, readRange } from "./tar/entry.ts";
import { looksLikeTar } from "./tar/read.ts";

/** Where layers are read and unpacked: the store, or an import. */
export interface LayerSource {
	open(digest: string): Promise<FileHandle>;
	scratch(): Promise<FileHandle>;
	fill(handle: FileHandle, chunk: Uint8Array): Promise<void>;
}

/** A layer by its blob. Without `diffId` its content is not checked. */
export interface LayerBlob {
	readonly digest: string;
	readonly diffId: string | undefined;
}

export interface UnpackedLayer extends OpenLayer {
	readonly diffId: string;
}

/** What unpacking layers may cost. */
export interface LayerLimits {
	readonly budget: ImageBudget;
	/** Ends it. */
	readonly signal: AbortSignal | undefined;
}

export async function wholeFile(handle: FileHandle): Promise<FileRange> {
	return { fd: handle.fd, start: 0, size: (await handle.stat()).size };
}

/**
 * Opens layers, gives them to `work`, and closes them when it has ended or failed.
 *
 * @throws ImageError ERR_IMAGE_DIGEST when a layer is not what the configuration says, ERR_IMAGE_TOO_LARGE; the signal's
 *   reason
 */
export async function withLayers<T>(
	source: LayerSource,
	blobs: readonly LayerBlob[],
	work: (layers: readonly UnpackedLayer[]) => Promise<T>,
	limits: LayerLimits,
): Promise<T> {
	const handles: FileHandle[] = [];
	const own = (handle: FileHandle) => {
		handles.push(handle);
		return handle;
	};
	try {
		const layers: UnpackedLayer[] = [];
		for (const blob of blobs) {
			limits.signal?.throwIfAborted();
			layers.push(await unpack(source, blob, own, limits));
		}
		return await work(layers);
	} finally {
		for (const handle of handles) await handle.close();
	}
}

async function unpack(
	source: LayerSource,
	{ digest, diffId }: LayerBlob,
	own: (handle: FileHandle) => FileHandle,
	{ budget, signal }: LayerLimits,
): Promise<UnpackedLayer> {
	const name = `layer ${digest}`;
	let range = await wholeFile(own(await source.open(digest)));
	if (range.size === 0) throw malformed(name, "it is empty");
	const compression = layerCompression(readRange(range, 0, 6));
	let found = digest;
	if (compression !== "none") {
		const hash = createHash("sha256");
		const plain = own(await source.scratch());
		for await (const chunk of decompress(chunks(range), compression, name, budget)) {
			signal?.throwIfAborted();
			hash.update(chunk);
			await source.fill(plain, chunk);
		}
		found = `sha256:${hash.digest("hex")}`;
		range = await wholeFile(plain);
	}
	if (diffId !== undefined && diffId !== found) {
		throw new ImageError(
			"ERR_IMAGE_DIGEST",
			`Cannot read image: ${name} unpacks to ${found}, the configuration's diff_id is ${diffId}`,
		);
	}
	if (!looksLikeTar(range)) throw malformed(name, "it is not a tar archive");
	return { range, name, diffId: found };
}
