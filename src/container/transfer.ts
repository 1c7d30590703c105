/*
 * `pullImage` and `pushImage`: images between registries and the store that `runContainer` finds them in.
 */
import type { BlobProgress } from "./registry/transfer.ts";

/** How an image is transferred. */
export interface TransferOptions {
	/** Allows plain http and certificates that nobody vouches for, as always for registries on this machine. */
	insecure?: boolean;
	/** Told often how far each layer is. */
	onProgress?: (progress: BlobProgress) => void;
	/** Ends the transfer; what waits then fails with its reason. */
	signal?: AbortSignal;
}

/** What was transferred. */
export interface TransferredImage {
	/** Complete: "docker.io/library/busybox:latest". */
	readonly name: string;
	/** Digest ("sha256:...") of what the registry has under the name: a manifest, or an index that lists it. */
	readonly digest: string;
}

/**
 * Brings an image from a registry, with the credentials, mirrors and proxies that docs/registries.md describes.
 *
 * @param name "busybox", "quay.io/org/app:1", "localhost:5000/app@sha256:..."
 * @param options `platform`: "linux/amd64" when missing; another one can be kept and pushed, but not run
 * @throws UsageError ERR_IMAGE_REFERENCE for a name that is none; HostError for what the registry or this host refuses;
 * ImageError for what is wrong with the image; the signal's reason. The store is then as before.
 * @example await pullImage("busybox"); // { name: "docker.io/library/busybox:latest", digest: "sha256:..." }
 */
export async function pullImage(
	name: string,
	options: TransferOptions & { platform?: string } = {},
): Promise<TransferredImage> {
	const [{ ImageStore }, { pull }] = await Promise.all([import("./image/store.ts"), import("./registry/pull.ts")]);
	const pulled = await pull(new ImageStore(), name, options);
	return { name: pulled.name, digest: pulled.digest };
}

/**
 * Sends an image to its registry, as it is.
 *
 * @param name [HOST/]PATH[:TAG]; an image of this name is in the store
 * @throws ImageError ERR_IMAGE_NOT_FOUND; HostError for what the registry refuses; the signal's reason
 */
export async function pushImage(name: string, options: TransferOptions = {}): Promise<TransferredImage> {
	const [{ ImageStore }, { push }] = await Promise.all([import("./image/store.ts"), import("./registry/push.ts")]);
	const pushed = await push(new ImageStore(), name, options);
	return { name: pushed.name, digest: pushed.digest };
}
