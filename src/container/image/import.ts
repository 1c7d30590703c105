/*
 * Imports images from a file, a directory or stdin into the store. It unpacks the outer compression, tells the format
 * by the files inside, chooses the images, copies and checks their blobs, and merges all layers as a check. Then it
 * makes the images visible.
 */
import { type FileHandle, open, stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { errnoName, explain, HostError, ImageError, UsageError } from "../../base/errors.ts";
import { DirectoryArchive, TarArchive } from "./archive.ts";
import { ImageBudget, type ImageLimits } from "./budget.ts";
import { checkImage } from "./check.ts";
import type { StoredImage } from "./config.ts";
import { decompress, layerCompression } from "./decompress.ts";
import type { ArchivedImage } from "./formats/archived-image.ts";
import { readDockerArchive } from "./formats/docker.ts";
import { readOciLayout } from "./formats/oci.ts";
import { readRootfs } from "./formats/rootfs.ts";
import { wholeFile } from "./layer-file.ts";
import { Pace } from "./pace.ts";
import { formatReference, parseReference, type Reference, referenceFromFile } from "./reference.ts";
import type { Staging } from "./staging.ts";
import type { ImageStore } from "./store.ts";
import { chunks, readRange } from "./tar/entry.ts";
import { looksLikeTar } from "./tar/read.ts";

export interface ImportOptions {
	/** NAME[:TAG] for the image. When missing: its names in the archive, or a name made from the file's. */
	name?: string | undefined;
	/** Takes an image without a name as it is; otherwise it needs `name` or a file name to make one from. */
	nameless?: boolean;
	/** Each replaces the one of IMAGE_LIMITS. */
	limits?: Partial<ImageLimits>;
	/** Ends the import. The store is then as before. */
	signal?: AbortSignal;
}

export interface ImportedImage {
	readonly image: StoredImage;
	readonly names: readonly string[];
}

/**
 * Imports every image of an archive, or the one called `name`.
 *
 * @param source a path, or a stream (stdin), which the signal destroys
 * @throws ImageError for what is wrong with the image, HostError ERR_STORE_FULL, the signal's reason; the store is then
 *   as before
 * @example await importImage(new ImageStore(), "busybox.tar", { name: "busybox" });
 */
export async function importImage(
	store: ImageStore,
	source: string | AsyncIterable<Uint8Array>,
	options: ImportOptions = {},
): Promise<ImportedImage[]> {
	const wanted = options.name === undefined ? undefined : wantedName(options.name);
	const { signal, nameless = false } = options;
	signal?.throwIfAborted();
	const file = typeof source === "string" ? await openSource(source) : undefined;
	/* A stream may wait for its writer for ever. */
	const abort = () => source instanceof Readable && source.destroy();
	signal?.addEventListener("abort", abort, { once: true });
	try {
		const staging = await store.stage();
		try {
			const label = typeof source === "string" ? source : "standard input";
			const input = file?.handle ?? (source as AsyncIterable<Uint8Array>);
			const work: Work = { staging, label, budget: new ImageBudget(options.limits), signal, nameless };
			const found = await withArchivedImages(work, file?.directory ?? input, (archived) =>
				loadAll(work, archived, wanted),
			);
			signal?.throwIfAborted();
			await staging.commit(found);
			return found;
		} finally {
			await staging.discard();
		}
	} catch (error) {
		/* An error after an abort is not the image's fault. */
		signal?.throwIfAborted();
		throw error;
	} finally {
		signal?.removeEventListener("abort", abort);
		await file?.handle?.close();
	}
}

/** One import under way. */
interface Work {
	readonly staging: Staging;
	/** What the user calls the input. */
	readonly label: string;
	readonly budget: ImageBudget;
	readonly signal: AbortSignal | undefined;
	readonly nameless: boolean;
}

function wantedName(text: string): Reference {
	const reference = parseReference(text);
	if (reference.digest === undefined) return reference;
	throw new UsageError("ERR_IMAGE_REFERENCE", `Cannot import an image as "${text}": a digest cannot be chosen`);
}

async function openSource(path: string): Promise<{ directory?: string; handle?: FileHandle }> {
	try {
		if ((await stat(path)).isDirectory()) return { directory: path };
		return { handle: await open(path, "r") };
	} catch (error) {
		const code = errnoName(error) === "ENOENT" ? "ERR_IMAGE_NOT_FOUND" : "ERR_IMAGE_OPEN";
		throw new HostError(code, `Cannot open ${path}: ${explain(error)}`, { cause: error });
	}
}

async function withArchivedImages<T>(
	work: Work,
	input: string | FileHandle | AsyncIterable<Uint8Array>,
	use: (archived: ArchivedImage[]) => Promise<T>,
): Promise<T> {
	const { label, budget, signal } = work;
	if (typeof input === "string") {
		const archive = new DirectoryArchive(input, budget, signal);
		if (!(await archive.has("oci-layout"))) {
			throw new ImageError("ERR_IMAGE_FORMAT", `Cannot import ${label}: the directory has no file oci-layout`, {
				hint: "Give an OCI image layout, or pack a root file system with tar",
			});
		}
		return use(await readOciLayout(archive));
	}
	const scratch: FileHandle[] = [];
	try {
		const plain = await seekable(work, input, scratch);
		const range = await wholeFile(plain);
		if (!looksLikeTar(range)) {
			throw new ImageError("ERR_IMAGE_FORMAT", `Cannot import ${label}: it is not a tar archive`, {
				hint: "Give an OCI layout, a docker-archive or a root file system, as tar, plain or with gzip, zstd or xz",
			});
		}
		const archive = await TarArchive.open(range, label, budget, signal);
		if (archive.isEmpty) throw empty(label, "an archive without files");
		const { kind } = archive;
		if (kind === "oci-layout") return await use(await readOciLayout(archive));
		if (kind === "docker-archive") return await use(await readDockerArchive(archive));
		return await use(readRootfs(archive));
	} finally {
		for (const handle of scratch) await handle.close();
	}
}

/**
 * The input as an uncompressed file with random access: the input itself, or a scratch file that it was unpacked into.
 */
async function seekable(
	work: Work,
	input: FileHandle | AsyncIterable<Uint8Array>,
	scratch: FileHandle[],
): Promise<FileHandle> {
	const { label, budget } = work;
	let file = input;
	if (!isHandle(file) || !(await file.stat()).isFile()) {
		const stream = isHandle(file) ? file.createReadStream({ autoClose: false }) : file;
		file = await unpack(work, decompress(counted(stream, budget), "none", label, budget), scratch);
	} else budget.addInput((await file.stat()).size);
	const range = await wholeFile(file);
	if (range.size === 0) throw empty(label, "zero bytes");
	const compression = layerCompression(readRange(range, 0, 6));
	if (compression === "none") return file;
	const plain = await unpack(work, decompress(chunks(range), compression, label, budget), scratch);
	if ((await plain.stat()).size === 0) throw empty(label, "nothing but compression");
	return plain;
}

async function* counted(stream: AsyncIterable<Uint8Array>, budget: ImageBudget): AsyncGenerator<Uint8Array> {
	for await (const chunk of stream) {
		budget.addInput(chunk.length);
		yield chunk;
	}
}

/** A FileHandle; process.stdin has an `fd` too, but no `stat`. */
function isHandle(input: FileHandle | AsyncIterable<Uint8Array>): input is FileHandle {
	return "stat" in input;
}

async function unpack(
	{ staging, signal }: Work,
	source: AsyncIterable<Uint8Array>,
	scratch: FileHandle[],
): Promise<FileHandle> {
	const handle = await staging.scratch();
	scratch.push(handle);
	for await (const chunk of source) {
		signal?.throwIfAborted();
		await staging.fill(handle, chunk);
	}
	return handle;
}

function empty(label: string, found: string): ImageError {
	return new ImageError("ERR_IMAGE_EMPTY", `Cannot import ${label}: it is ${found}`);
}

async function loadAll(
	{ staging, label, budget, signal, nameless }: Work,
	archived: readonly ArchivedImage[],
	wanted: Reference | undefined,
): Promise<ImportedImage[]> {
	const found: ImportedImage[] = [];
	const pace = new Pace(signal);
	const picked = pick(archived, wanted, { label, nameless });
	budget.checkImages(label, picked.length);
	for (const { image, names } of picked) {
		const loaded = await image.load(staging);
		found.push({ image: await checkImage(staging, loaded, { budget, pace, signal }), names });
	}
	return found;
}

/** The images to import, each with its normalised names. */
function pick(
	archived: readonly ArchivedImage[],
	wanted: Reference | undefined,
	{ label, nameless }: Pick<Work, "label" | "nameless">,
) {
	const named = archived.map((image) => ({
		image,
		names: image.names.map((name) => complete(name, label)).filter((name) => name !== undefined),
	}));
	if (wanted === undefined) {
		if (nameless || named.length > 1 || named[0]!.names.length > 0) return named;
		const name = referenceFromFile(label);
		if (name !== undefined && label !== "standard input") {
			return [{ image: named[0]!.image, names: [formatReference(name)] }];
		}
		throw new UsageError("ERR_IMAGE_REFERENCE", `Cannot import ${label}: the image has no name`, {
			hint: "Give it one: tsvmm image import PATH NAME[:TAG]",
		});
	}
	const name = formatReference(wanted);
	const chosen = named.length === 1 ? named[0] : named.find(({ names }) => names.includes(name));
	if (chosen !== undefined) return [{ image: chosen.image, names: [name] }];
	const there = named.flatMap(({ names }) => names).slice(0, 10);
	throw new UsageError("ERR_IMAGE_AMBIGUOUS", `Cannot import ${label} as ${name}: it holds ${named.length} images`, {
		hint: `Import it without a name, or choose one of ${there.join(", ") || "its names"}`,
	});
}

/**
 * Normalises a name of the archive. ":TAG" takes its repository from the file's name. Undefined for an invalid name.
 */
function complete(name: string, label: string): string | undefined {
	try {
		const reference = name.startsWith(":") ? referenceFromFile(label, name.slice(1)) : parseReference(name);
		return reference && formatReference({ ...reference, tag: reference.tag ?? "latest", digest: undefined });
	} catch (error) {
		if (error instanceof UsageError) return undefined;
		throw error;
	}
}
