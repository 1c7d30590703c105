/*
 * Brings an image from a registry into the store: the manifest of one platform, then what the store lacks of its
 * configuration and layers, three at a time; all of it is checked before it becomes visible, as in an import.
 *
 *     mirrors, then the registry: name -> manifest (of an index: the platform's) -> configuration, layers
 *     -> Staging (digests) -> checkImage (layers) -> commit
 */
import { TsvmmError, UsageError } from "../../base/errors.ts";
import { ImageBudget } from "../image/budget.ts";
import { checkImage } from "../image/check.ts";
import type { StoredImage } from "../image/config.ts";
import { type Descriptor, MAX_DOCUMENT_BYTES } from "../image/documents.ts";
import { malformed } from "../image/failure.ts";
import { digestOf, PLATFORM } from "../image/formats/archived-image.ts";
import { type DocumentKind, type ResolvedImage, resolveImage } from "../image/formats/resolve.ts";
import { Pace } from "../image/pace.ts";
import { formatReference, parseReference, type Reference } from "../image/reference.ts";
import type { Staging } from "../image/staging.ts";
import type { ImageStore } from "../image/store.ts";
import { RegistryClient } from "./client.ts";
import { type Credentials, DockerConfig } from "./credentials.ts";
import { download } from "./download.ts";
import { fullName, hostOf, locate } from "./location.ts";
import { isInsecure, type RegistrySettings, registrySettings } from "./settings.ts";
import { type BlobProgress, inParallel } from "./transfer.ts";

export interface PullOptions {
	/** "linux/amd64" when missing; another one can be kept and pushed, but not run. */
	platform?: string | undefined;
	/** Allows plain http and certificates that nobody vouches for, as for registries on this machine. */
	insecure?: boolean | undefined;
	/** Told often how far each layer is. */
	onProgress?: ((progress: BlobProgress) => void) | undefined;
	/** Ends the pull; the store is then as before. */
	signal?: AbortSignal | undefined;
	/** Instead of the user's. @internal */
	settings?: RegistrySettings | undefined;
	/** Instead of Docker's configuration. @internal */
	credentials?: ((registry: string) => Promise<Credentials | undefined>) | undefined;
}

export interface PulledImage {
	readonly image: StoredImage;
	/** The name, complete: "docker.io/library/busybox:latest". */
	readonly name: string;
	/** What the registry has under the name: the digest of the image's manifest, or of an index that lists it. */
	readonly digest: string;
	/** False when the name stood for this image before. */
	readonly isNewer: boolean;
}

/**
 * Pulls an image.
 *
 * @param name [HOST/]PATH[:TAG][@DIGEST]
 * @throws UsageError ERR_IMAGE_REFERENCE; HostError ERR_REGISTRY_NOT_FOUND, ERR_REGISTRY_AUTH, ERR_REGISTRY_TIMEOUT and
 *   others, ERR_STORE_FULL; ImageError for what is wrong with the image; the signal's reason. The store is then as before.
 */
export async function pull(store: ImageStore, name: string, options: PullOptions = {}): Promise<PulledImage> {
	const reference = parseReference(name);
	const platform = parsePlatform(options.platform ?? PLATFORM);
	const { signal } = options;
	signal?.throwIfAborted();
	const sources = sourcesOf(reference, options);
	const staging = await store.stage();
	try {
		for (const [i, source] of sources.entries()) {
			const stop = new AbortController();
			const ends = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
			await using client = new RegistryClient({ ...source, signal: ends });
			const work: PullWork = { store, staging, client, reference, platform, options, attempt: source.attempt, stop };
			try {
				return await pullFrom(work);
			} catch (error) {
				signal?.throwIfAborted();
				/* A mirror that fails is no reason to fail. */
				if (i === sources.length - 1 || !(error instanceof TsvmmError)) throw error;
			}
		}
		throw new Error("there is no registry");
	} finally {
		await staging.discard();
	}
}

/** "linux/amd64", "linux/arm/v7" */
function parsePlatform(text: string): string {
	if (/^[a-z0-9]+\/[a-z0-9]+(\/[a-z0-9.]+)?$/.test(text)) return text;
	throw new UsageError("ERR_IMAGE_REFERENCE", `Cannot read platform "${text}"`, {
		hint: "Give OS/ARCHITECTURE, as in linux/amd64",
	});
}

/** The mirrors of a registry, and the registry. */
function sourcesOf(reference: Reference, options: PullOptions) {
	const settings = settingsFor(locate(reference.repository).registry, options);
	const { registry, host, path } = locate(reference.repository);
	const find = options.credentials ?? ((name: string) => new DockerConfig().find(name, options.signal));
	const own = {
		attempt: `pull ${formatReference(reference)}`,
		actions: "pull" as const,
		path,
		settings,
	};
	return [
		...(settings.mirrors.get(registry) ?? []).map((base) => ({
			...own,
			base,
			registry: base.host,
			credentials: () => find(base.host),
		})),
		{ ...own, base: host, registry, credentials: () => find(registry) },
	];
}

/** The user's settings, with a registry that the command line calls insecure among the insecure ones. */
export function settingsFor(registry: string, { insecure, settings }: PullOptions): RegistrySettings {
	const all = settings ?? registrySettings();
	if (insecure !== true || isInsecure(all, registry)) return all;
	return { ...all, insecure: new Set([...all.insecure, registry, hostOf(registry)]) };
}

/** One pull from one registry or mirror. */
interface PullWork {
	readonly store: ImageStore;
	readonly staging: Staging;
	readonly client: RegistryClient;
	readonly reference: Reference;
	readonly platform: string;
	readonly options: PullOptions;
	readonly attempt: string;
	/** Ends what is under way when a part of it has failed. */
	readonly stop: AbortController;
}

async function pullFrom(work: PullWork): Promise<PulledImage> {
	const { store, staging, client, reference, platform, options } = work;
	const top = await client.manifest(reference.digest ?? reference.tag!);
	const source = {
		read: async (descriptor: Descriptor, kind: DocumentKind) => {
			if (descriptor.digest === top.digest) return top.data;
			return kind === "manifest" ? (await client.manifest(descriptor.digest)).data : readConfig(work, descriptor);
		},
		nameOf: ({ digest }: Descriptor) => (digest === top.digest ? "the manifest" : `blob ${digest}`),
	};
	const rest = { mediaType: undefined, annotations: undefined, platform: undefined };
	const resolved = await resolveImage(source, [{ digest: top.digest, size: top.data.length, ...rest }], platform);
	const { repository } = reference;
	const names = [formatReference({ repository, tag: undefined, digest: top.digest })];
	if (reference.digest === undefined) names.unshift(formatReference(reference));
	const before = store.has(names[0]!) ? store.find(names[0]!).digest : undefined;
	const image = store.get(digestOf(resolved.manifestData)) ?? (await load(work, resolved));
	options.signal?.throwIfAborted();
	await staging.commit([{ image, names }]);
	return { image, name: fullName(reference), digest: top.digest, isNewer: before !== image.digest };
}

/** A configuration, from the store if it is there. */
async function readConfig({ client, staging, attempt }: PullWork, descriptor: Descriptor): Promise<Buffer> {
	const { digest, size } = descriptor;
	if (size > MAX_DOCUMENT_BYTES) throw malformed(`blob ${digest}`, `${size} bytes are too many for a JSON document`);
	if (await staging.has({ digest, sizeBytes: size })) {
		const handle = await staging.open(digest);
		return handle.readFile().finally(() => handle.close());
	}
	const chunks: Uint8Array[] = [];
	for await (const chunk of download(client, descriptor, attempt)) chunks.push(chunk);
	return Buffer.concat(chunks);
}

/** Brings all blobs and tries the layers out. */
async function load(
	work: PullWork,
	{ manifestData, manifest, configData, parsed }: ResolvedImage,
): Promise<StoredImage> {
	const { staging, client, options, attempt, stop } = work;
	const { signal, onProgress } = options;
	const budget = new ImageBudget();
	const tell = ({ digest, size }: Descriptor, state: BlobProgress["state"], doneBytes: number) =>
		onProgress?.({ digest, state, doneBytes, totalBytes: size });
	for (const layer of manifest.layers) tell(layer, "waiting", 0);
	const bring = async (layer: Descriptor) => {
		const blob = { digest: layer.digest, sizeBytes: layer.size };
		budget.addInput(layer.size);
		if (await staging.has(blob, stop.signal)) {
			tell(layer, "present", layer.size);
			return;
		}
		budget.addWritten(`blob ${layer.digest}`, layer.size);
		const bytes = download(client, layer, attempt, (done) => tell(layer, "sent", done));
		await staging.put(bytes, `blob ${layer.digest}`, blob);
		tell(layer, "done", layer.size);
	};
	/* An image may have the same layer twice. */
	await inParallel([...new Map(manifest.layers.map((layer) => [layer.digest, layer])).values()], bring, stop);
	const loaded = {
		manifest: await staging.put([manifestData], "manifest"),
		configuration: await staging.put([configData], "configuration"),
		parsed,
		layers: manifest.layers.map((layer, i) => ({
			digest: layer.digest,
			sizeBytes: layer.size,
			diffId: parsed.diffIds[i],
		})),
	};
	return checkImage(staging, loaded, { budget, pace: new Pace(signal), signal });
}
