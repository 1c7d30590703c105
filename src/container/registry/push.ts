/*
 * Sends an image of the store to a registry, byte for byte as it is there: what the registry lacks of its layers and its
 * configuration, three at a time, then the manifest under its tag.
 */
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { explain, HostError, UsageError } from "../../base/errors.ts";
import { type Descriptor, parseManifest } from "../image/documents.ts";
import { MEDIA } from "../image/formats/archived-image.ts";
import { formatReference, parseReference } from "../image/reference.ts";
import type { ImageStore } from "../image/store.ts";
import { RegistryClient } from "./client.ts";
import { DockerConfig } from "./credentials.ts";
import { isBroken } from "./failure.ts";
import { fullName, locate } from "./location.ts";
import { type PullOptions, settingsFor } from "./pull.ts";
import { type BlobProgress, inParallel } from "./transfer.ts";

export type PushOptions = Omit<PullOptions, "platform">;

export interface PushedImage {
	/** The name, complete: "docker.io/library/busybox:latest". */
	readonly name: string;
	readonly digest: string;
	/** Of the manifest. */
	readonly sizeBytes: number;
}

/** How often an upload is begun that a connection has cut off. */
const ATTEMPTS = 3;

/**
 * Pushes an image.
 *
 * @param name [HOST/]PATH[:TAG]; the store has it under this name
 * @throws ImageError ERR_IMAGE_NOT_FOUND; HostError ERR_REGISTRY_AUTH, ERR_REGISTRY_TIMEOUT and others; the signal's reason
 */
export async function push(store: ImageStore, name: string, options: PushOptions = {}): Promise<PushedImage> {
	const reference = parseReference(name);
	if (reference.tag === undefined) {
		throw new UsageError("ERR_IMAGE_REFERENCE", `Cannot push "${name}": a tag is wanted`, {
			hint: "Run tsvmm tag SOURCE NAME:TAG to give it one",
		});
	}
	const { registry, host, path } = locate(reference.repository);
	const { signal } = options;
	signal?.throwIfAborted();
	store.find(formatReference(reference));
	const attempt = `push ${formatReference(reference)}`;
	const find = options.credentials ?? ((one: string) => new DockerConfig().find(one, signal));
	const stop = new AbortController();
	await using client = new RegistryClient({
		attempt,
		registry,
		base: host,
		path,
		actions: "pull,push",
		settings: settingsFor(registry, options),
		credentials: () => find(registry),
		signal: signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]),
	});
	/* Holds the store's lock: nobody removes blobs meanwhile. */
	const staging = await store.stage();
	try {
		const image = store.find(formatReference(reference));
		const data = await readFile(store.blobPath(image.digest)).catch((error: unknown) => {
			throw new HostError("ERR_STORE_READ", `Cannot ${attempt}: its manifest: ${explain(error)}`, { cause: error });
		});
		const manifest = parseManifest(data, "the manifest");
		const blobs = new Map([...manifest.layers, manifest.config].map((blob) => [blob.digest, blob]));
		for (const layer of manifest.layers) tell(options, layer, "waiting", 0);
		await inParallel([...blobs.values()], (blob) => send(client, store, blob, options), stop);
		await client.putManifest(reference.tag, data, mediaTypeOf(data));
		const { repository } = reference;
		const names = [formatReference({ repository, tag: undefined, digest: image.digest })];
		await staging.commit([{ image, names }]);
		return { name: fullName(reference), digest: image.digest, sizeBytes: data.length };
	} catch (error) {
		signal?.throwIfAborted();
		throw error;
	} finally {
		await staging.discard();
	}
}

type Tells = Pick<PushOptions, "onProgress">;

function tell({ onProgress }: Tells, blob: Descriptor, state: BlobProgress["state"], doneBytes: number): void {
	/* A configuration is no layer. */
	if (blob.mediaType?.includes("config") !== true && blob.mediaType?.includes("container.image") !== true)
		onProgress?.({ digest: blob.digest, state, doneBytes, totalBytes: blob.size });
}

async function send(client: RegistryClient, store: ImageStore, blob: Descriptor, options: Tells): Promise<void> {
	if (await client.hasBlob(blob.digest)) {
		tell(options, blob, "present", blob.size);
		return;
	}
	for (let attempt = 1; ; attempt++) {
		try {
			const onBytes = (done: number) => tell(options, blob, "sent", done);
			const open = () => Readable.from(counted(store.blobPath(blob.digest), onBytes), { objectMode: false });
			await client.putBlob({ digest: blob.digest, sizeBytes: blob.size }, open);
			break;
		} catch (error) {
			if (attempt === ATTEMPTS || !isBroken((error as Error).cause)) throw error;
			await client.pause(attempt);
		}
	}
	tell(options, blob, "done", blob.size);
}

async function* counted(path: string, onBytes: (done: number) => void): AsyncGenerator<Buffer> {
	let done = 0;
	for await (const chunk of createReadStream(path, { highWaterMark: 256 * 1024 })) {
		yield chunk as Buffer;
		done += (chunk as Buffer).length;
		onBytes(done);
	}
}

/** What the manifest calls itself. */
function mediaTypeOf(data: Buffer): string {
	const { mediaType } = JSON.parse(data.toString("utf8")) as { mediaType?: unknown };
	return typeof mediaType === "string" ? mediaType : MEDIA.manifest;
}
