/*
 * Images for tests: tars by the tar-stream library (not by our writer), and OCI layouts and docker-archives of them.
 * Each is a list of files, so that a test can damage one document before it is packed.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Header, pack } from "tar-stream";
import { afterEach, beforeEach } from "vitest";
import { ImageStore } from "../../../src/container/image/store.ts";

export interface Member extends Partial<Omit<Header, "pax">> {
	name: string;
	data?: string | Buffer;
	pax?: Record<string, string>;
}

/** A tar of the members, each a file unless it says otherwise. */
export async function tar(members: readonly Member[]): Promise<Buffer> {
	const stream = pack();
	const parts: Buffer[] = [];
	stream.on("data", (chunk) => parts.push(chunk as Buffer));
	const ended = new Promise<void>((resolve) => stream.on("end", () => resolve()));
	for (const { data, ...header } of members) {
		const type = header.type ?? (header.name.endsWith("/") ? "directory" : "file");
		const body = data ?? "";
		const all = { mtime: new Date(1_000_000_000_000), ...header, type } as Header;
		if (type === "file") stream.entry(all, body);
		else stream.entry(all);
	}
	stream.finalize();
	await ended;
	return Buffer.concat(parts);
}

export const sha256 = (data: Buffer | string) => `sha256:${createHash("sha256").update(data).digest("hex")}`;

/** Files of an archive by path. */
export type Files = Map<string, Buffer>;

export interface LayoutOptions {
	config?: Record<string, unknown>;
	run?: Record<string, unknown>;
	annotations?: Record<string, string>;
	/** Applied to each layer's blob; the diff_id stays that of the tar. */
	compress?: (tar: Buffer) => Buffer;
}

/** An OCI layout of one image from layers as tars. */
export function ociLayout(layers: readonly Buffer[], options: LayoutOptions = {}): Files {
	const files: Files = new Map();
	const { compress = (data: Buffer) => data } = options;
	const blob = (data: Buffer, mediaType: string) => {
		files.set(`blobs/${sha256(data).replace(":", "/")}`, data);
		return { mediaType, digest: sha256(data), size: data.length };
	};
	const config = blob(
		json({
			architecture: "amd64",
			os: "linux",
			config: options.run ?? { Cmd: ["sh"] },
			rootfs: { type: "layers", diff_ids: layers.map(sha256) },
			...options.config,
		}),
		"application/vnd.oci.image.config.v1+json",
	);
	const manifest = blob(
		json({
			schemaVersion: 2,
			config,
			layers: layers.map((layer) => blob(compress(layer), "application/vnd.oci.image.layer.v1.tar")),
		}),
		"application/vnd.oci.image.manifest.v1+json",
	);
	files.set("oci-layout", json({ imageLayoutVersion: "1.0.0" }));
	const annotations = options.annotations ? { annotations: options.annotations } : {};
	files.set("index.json", json({ schemaVersion: 2, manifests: [{ ...manifest, ...annotations }] }));
	return files;
}

/** A docker-archive, as `docker save` wrote it before version 25. */
export function dockerArchive(layers: readonly Buffer[], tags: string[] | null, run: object = { Cmd: ["sh"] }): Files {
	const files: Files = new Map();
	const config = json({
		architecture: "amd64",
		os: "linux",
		created: "2020-02-02T00:00:00Z",
		config: run,
		rootfs: { type: "layers", diff_ids: layers.map(sha256) },
	});
	const name = `${sha256(config).slice(7)}.json`;
	files.set(name, config);
	for (const [i, layer] of layers.entries()) files.set(`layer${i}/layer.tar`, layer);
	const paths = layers.map((_, i) => `layer${i}/layer.tar`);
	files.set("manifest.json", json([{ Config: name, RepoTags: tags, Layers: paths }]));
	return files;
}

export const json = (value: unknown) => Buffer.from(JSON.stringify(value));

export function packFiles(files: Files): Promise<Buffer> {
	return tar([...files].map(([name, data]) => ({ name, data })));
}

/** Replaces one document and mends nothing else. */
export function withFile(files: Files, path: string, data: Buffer | string): Files {
	return new Map([...files, [path, Buffer.from(data)]]);
}

// biome-ignore lint/suspicious/noExplicitAny: a test damages any field of a document
export type Change = (document: any) => unknown;

/** Changes the index's, manifest's and config's JSON in turn and mends the digests above, so that one lie is left. */
export function remake(files: Files, change: { manifest?: Change; config?: Change }): Files {
	const out = new Map(files);
	const index = JSON.parse(files.get("index.json")!.toString());
	const path = (digest: string) => `blobs/${digest.replace(":", "/")}`;
	const manifest = JSON.parse(files.get(path(index.manifests[0].digest))!.toString());
	const put = (value: unknown, old: object) => {
		const data = typeof value === "string" ? Buffer.from(value) : json(value);
		out.set(path(sha256(data)), data);
		return { ...old, digest: sha256(data), size: data.length };
	};
	if (change.config !== undefined) {
		const config = JSON.parse(files.get(path(manifest.config.digest))!.toString());
		manifest.config = put(change.config(config), manifest.config);
	}
	const changed = change.manifest === undefined ? manifest : change.manifest(manifest);
	index.manifests[0] = put(changed, index.manifests[0]);
	out.set("index.json", json(index));
	return out;
}

/** A fresh directory per test, removed after it. */
export function useDirectory(): {
	readonly path: string;
	file(name: string, data: Buffer): string;
	store(): ImageStore;
} {
	let path = "";
	beforeEach(() => {
		path = mkdtempSync(join(tmpdir(), "tsvmm-image-"));
	});
	afterEach(() => rmSync(path, { recursive: true, force: true }));
	return {
		get path() {
			return path;
		},
		file(name, data) {
			const full = join(path, name);
			mkdirSync(dirname(full), { recursive: true });
			writeFileSync(full, data);
			return full;
		},
		store: () => new ImageStore(join(path, "cache/images")),
	};
}

/** Writes a layout as a directory and gives its path. */
export function writeDirectory(files: Files, parent: string): string {
	const directory = join(parent, `layout-${randomUUID()}`);
	for (const [name, data] of files) {
		mkdirSync(dirname(join(directory, name)), { recursive: true });
		writeFileSync(join(directory, name), data);
	}
	return directory;
}
