/*
 * Writes an OCI image layout with one layer, as any other tool would, so that the demo images come into the store
 * through the same door as everybody's.
 */
import { createHash } from "node:crypto";
import { mkdir, open, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { gzipSync } from "node:zlib";
import { digestOf, MEDIA } from "../../src/container/image/formats/archived-image.ts";
import { bytePath } from "../../src/container/image/tar/entry.ts";
import { padding, tarEnd, tarHeader } from "../../src/container/image/tar/write.ts";

/** What goes into the image's configuration, in its own spelling. */
export interface RunConfig {
	Env?: string[];
	Entrypoint?: string[];
	Cmd?: string[];
	WorkingDir?: string;
	User?: string;
	Labels?: Record<string, string>;
}

/** One file, directory or symbolic link of a small image; root's. */
export interface SmallFile {
	path: string;
	mode?: number;
	/** Content; a directory when neither data nor target is there. */
	data?: string | Uint8Array;
	target?: string;
}

/** A small root file system as a tar, sorted, all of one time. */
export function smallTar(files: readonly SmallFile[], mtime: number): Buffer {
	const parts: Buffer[] = [];
	for (const file of [...files].sort((a, b) => (a.path < b.path ? -1 : 1))) {
		const data = Buffer.from(file.data ?? "");
		const type = file.data !== undefined ? "file" : file.target !== undefined ? "symlink" : "directory";
		const mode = file.mode ?? (type === "file" ? 0o644 : type === "symlink" ? 0o777 : 0o755);
		const target = bytePath(file.target ?? "");
		const owner = { uid: 0, gid: 0, major: 0, minor: 0, xattrs: new Map() };
		parts.push(tarHeader({ path: bytePath(file.path), type, mode, mtime, target, size: data.length, ...owner }));
		parts.push(data, padding(data.length));
	}
	return Buffer.concat([...parts, tarEnd()]);
}

/** Writes a layout around a layer that is in memory. */
export async function writeSmallLayout(
	directory: string,
	tar: Buffer,
	config: RunConfig,
	mtime: number,
): Promise<void> {
	const packed = gzipSync(tar, { level: 6 });
	const digest = digestOf(packed);
	await makeDirectories(directory);
	await writeFile(blobPath(directory, digest), packed);
	const layer = { mediaType: `${MEDIA.layer}+gzip`, digest, size: packed.length };
	await writeDocuments(directory, layer, digestOf(tar), config, mtime);
}

/** Writes a layout around a tar file, which moves into it. */
export async function writeLayout(directory: string, tar: string, config: RunConfig, mtime: number): Promise<void> {
	const hash = createHash("sha256");
	const handle = await open(tar, "r");
	const size = (await handle.stat()).size;
	await pipeline(handle.createReadStream(), hash);
	const digest = `sha256:${hash.digest("hex")}`;
	await makeDirectories(directory);
	await rename(tar, blobPath(directory, digest));
	await writeDocuments(directory, { mediaType: MEDIA.layer, digest, size }, digest, config, mtime);
}

async function makeDirectories(directory: string): Promise<void> {
	await mkdir(join(directory, "blobs/sha256"), { recursive: true });
}

function blobPath(directory: string, digest: string): string {
	return join(directory, "blobs", digest.replace(":", "/"));
}

async function writeDocuments(
	directory: string,
	layer: { mediaType: string; digest: string; size: number },
	diffId: string,
	config: RunConfig,
	mtime: number,
): Promise<void> {
	const blob = async (mediaType: string, value: unknown) => {
		const data = Buffer.from(JSON.stringify(value));
		const digest = digestOf(data);
		await writeFile(blobPath(directory, digest), data);
		return { mediaType, digest, size: data.length };
	};
	const configuration = await blob(MEDIA.config, {
		created: new Date(mtime * 1000).toISOString(),
		architecture: "amd64",
		os: "linux",
		config,
		rootfs: { type: "layers", diff_ids: [diffId] },
	});
	const manifest = await blob(MEDIA.manifest, {
		schemaVersion: 2,
		mediaType: MEDIA.manifest,
		config: configuration,
		layers: [layer],
	});
	await writeFile(join(directory, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
	await writeFile(join(directory, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
}
