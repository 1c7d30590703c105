/*
 * What the store knows about an image. It is parsed and checked once at import and kept as plain JSON, so `run` needs
 * no schema library. The fields are those of the OCI image configuration (image-spec 1.1, config.md).
 */

/** A command that tells whether a container is well. Docker's default is meant by what is undefined. */
export interface ImageHealthcheck {
	readonly args: readonly string[];
	readonly intervalMs: number | undefined;
	readonly timeoutMs: number | undefined;
	readonly startPeriodMs: number | undefined;
	/** Failures in a row that make it unhealthy. */
	readonly retries: number | undefined;
}

/** How a container of this image starts when the user says nothing else. */
export interface ImageConfig {
	/** "NAME=value" lines, in order. */
	readonly env: readonly string[];
	readonly entrypoint: readonly string[];
	readonly cmd: readonly string[];
	/** "" when the image does not say; the root directory then. */
	readonly workingDir: string;
	/** "", "user", "uid", "user:group" or "uid:gid", as the image has it. The guest looks it up in its /etc/passwd. */
	readonly user: string;
	readonly labels: Readonly<Record<string, string>>;
	/** "80/tcp" and the like. */
	readonly exposedPorts: readonly string[];
	/** "SIGTERM", "15"; undefined when the image does not say. */
	readonly stopSignal: string | undefined;
	/** Docker's HEALTHCHECK; missing when the image has none, and in records that older versions have written. */
	readonly healthcheck?: ImageHealthcheck | undefined;
	readonly architecture: string;
	readonly os: string;
}

/** One layer in the store: the blob, and the digest of its uncompressed tar. */
export interface StoredLayer {
	readonly digest: string;
	readonly diffId: string;
	/** Of the blob. */
	readonly sizeBytes: number;
	/** Of all files in it; missing in records that older versions have written. */
	readonly contentBytes?: number;
}

/** One image in the store. */
export interface StoredImage {
	/** Digest of the manifest ("sha256:..."), the image's identity in the store. */
	readonly digest: string;
	/** Digest of the configuration: Docker's IMAGE ID. */
	readonly id: string;
	/** RFC 3339, or undefined when the image does not say. */
	readonly created: string | undefined;
	/** Bytes of all files after all layers. */
	readonly sizeBytes: number;
	readonly layers: readonly StoredLayer[];
	readonly config: ImageConfig;
}
