/*
 * The image that a container is to have: from the store, or from its registry first.
 */
import { HostError, ImageError } from "../base/errors.ts";
import type { StoredImage } from "./image/config.ts";
import { PLATFORM, wrongPlatform } from "./image/formats/archived-image.ts";
import type { ImageStore } from "./image/store.ts";
import type { PullOptions } from "./registry/pull.ts";

/** When to ask the registry: for an image that the store lacks, each time, or not at all. */
export type PullPolicy = "missing" | "always" | "never";

export interface ObtainOptions extends Omit<PullOptions, "insecure"> {
	/** "missing" when missing. */
	pull?: PullPolicy | undefined;
	/** Called before the registry is asked. */
	onPull?: (() => void) | undefined;
}

/**
 * Finds an image, or pulls it.
 *
 * @param name NAME[:TAG], NAME@DIGEST, or the beginning of the ID of an image in the store
 * @throws as ImageStore.find and pull; ImageError ERR_IMAGE_PLATFORM for an image that cannot run here
 */
export async function obtainImage(store: ImageStore, name: string, options: ObtainOptions = {}): Promise<StoredImage> {
	const { pull: policy = "missing", platform = PLATFORM, onPull } = options;
	const { image, missing } = lookUp(store, name);
	/* The lab sees the store read-only, after the host has filled it. */
	const mayPull = policy !== "never" && process.env.TSVMM_LAB !== "1" && !/^sha256:[0-9a-f]+$/.test(name);
	const fits = image !== undefined && platformOf(image) === platform;
	if (mayPull && (policy === "always" || !fits)) {
		onPull?.();
		/* Loaded here: most containers have their image. */
		const { pull } = await import("./registry/pull.ts");
		const pulled = await pull(store, name, options).catch((error: unknown) => {
			throw missing === undefined ? error : withHintOf(missing, error);
		});
		return runnable(pulled.image);
	}
	if (image === undefined) throw missing!;
	if (!fits) throw wrongPlatform([platformOf(image)], platform);
	return runnable(image);
}

function lookUp(store: ImageStore, name: string): { image?: StoredImage; missing?: ImageError } {
	try {
		return { image: store.find(name) };
	} catch (error) {
		if (error instanceof ImageError && error.code === "ERR_IMAGE_NOT_FOUND") return { missing: error };
		throw error;
	}
}

/** A name with a slip of the pen is not in the registry either: what the store has is the better hint. */
function withHintOf(missing: ImageError, error: unknown): unknown {
	const unknown = ["ERR_REGISTRY_NOT_FOUND", "ERR_REGISTRY_AUTH", "ERR_REGISTRY_CONNECT"];
	const meant = missing.hint?.startsWith("Try ") === true;
	if (!(error instanceof HostError) || !unknown.includes(error.code) || !meant) return error;
	return new HostError(error.code, error.message, { hint: missing.hint, cause: error });
}

function platformOf({ config }: StoredImage): string {
	return `${config.os}/${config.architecture}`;
}

function runnable(image: StoredImage): StoredImage {
	if (platformOf(image) === PLATFORM) return image;
	throw wrongPlatform([platformOf(image)]);
}
