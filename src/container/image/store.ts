/*
 * The image store: content-addressed blobs, one record per image, one small file per name.
 *
 *     images/blobs/sha256/HEX    manifests, configurations and layers, as imported
 *     images/records/HEX.json    StoredImage by the manifest's digest: all that `run` reads
 *     images/names/HEX.json      a name and the digest it stands for; HEX is the hash of the name
 *     images/staging/UUID/       what an import is writing; swept when nobody holds the lock
 *     images/lock                shared: import and build; exclusive: remove and sweep
 *     rootfs/                    root file systems of images, and under names with a dot what a build is writing
 *
 * Every file is written under another name, synced and renamed into place. So a reader needs no lock and sees the old
 * file or the new one. No file is read, changed and written back, so two imports at once cannot lose each other's work.
 * A look-up writes nothing: the lab sees the store through a read-only mount.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, readdir, rm, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errnoName, explain, HostError, ImageError, UsageError } from "../../base/errors.ts";
import { cacheDirectory } from "../../host/directories.ts";
import { FileLock } from "../../host/file-lock.ts";
import type { StoredImage } from "./config.ts";
import { writeFailure } from "./failure.ts";
import { formatReference, parseReference } from "./reference.ts";
import { similarNames } from "./similar-names.ts";
import { Staging } from "./staging.ts";

/** An image with its names (none when a newer import took them all). */
export interface NamedImage extends StoredImage {
	/** With a tag: "busybox:latest". */
	readonly names: readonly string[];
	/** Where registries have it: "busybox@sha256:...", of the image itself or of an index that lists it. */
	readonly repoDigests: readonly string[];
}

export class ImageStore {
	readonly directory: string;
	/** Root file system images built from this store. */
	readonly rootfsDirectory: string;

	/** @param directory made on the first write; cacheDirectory()/images when missing */
	constructor(directory = join(cacheDirectory(), "images")) {
		this.directory = directory;
		this.rootfsDirectory = join(dirname(directory), "rootfs");
	}

	/** The path of a digest's blob, which may not exist. */
	blobPath(digest: string): string {
		return join(this.directory, "blobs/sha256", digest.slice("sha256:".length));
	}

	/**
	 * The image by what a user wrote: NAME[:TAG], NAME@DIGEST, or the beginning of an image ID.
	 *
	 * @throws ImageError ERR_IMAGE_NOT_FOUND with similar names as the hint; UsageError ERR_IMAGE_REFERENCE
	 */
	find(text: string): StoredImage {
		const byId = this.#findById(text);
		if (byId !== undefined) return byId;
		const reference = parseReference(text);
		const { repository, tag, digest } = reference;
		if (digest !== undefined) {
			const own = this.#record(digest);
			if (own !== undefined && this.#hasRepository(repository, digest)) return own;
			const pulled = this.#digestOf(formatReference({ repository, tag: undefined, digest }));
			const image = pulled === undefined ? undefined : this.#record(pulled);
			if (image !== undefined) return image;
		} else {
			const named = this.#digestOf(formatReference({ repository, tag, digest: undefined }));
			const image = named === undefined ? undefined : this.#record(named);
			if (image !== undefined) return image;
		}
		throw this.#notFound(formatReference(reference));
	}

	/** The image with this manifest, if it is here. */
	get(digest: string): StoredImage | undefined {
		return this.#record(digest);
	}

	/** True when the store has an image of this name. */
	has(text: string): boolean {
		try {
			this.find(text);
			return true;
		} catch (error) {
			if (error instanceof ImageError) return false;
			throw error;
		}
	}

	/** Every image with its names, sorted by name. */
	list(): NamedImage[] {
		const names = this.#names();
		const images = this.#images().map((image) => {
			const own = names.filter((n) => n.digest === image.digest).map((n) => n.reference);
			return { ...image, names: own.filter((name) => !isDigest(name)), repoDigests: own.filter(isDigest) };
		});
		const key = (image: NamedImage) => `${image.names[0] ?? "~"} ${image.digest}`;
		return images.sort((a, b) => (key(a) < key(b) ? -1 : 1));
	}

	/** Begins an import. It holds the lock shared until `discard`. */
	async stage(): Promise<Staging> {
		await this.#ready();
		const lock = await this.#openLock();
		try {
			/* Nobody else works here, so files that killed processes left can go. */
			if (lock.tryExclusive()) await this.#sweep();
			await lock.take("shared");
			return await Staging.create(this, lock);
		} catch (error) {
			await lock.close();
			throw writeFailure(this.directory, error);
		}
	}

	/**
	 * Removes files that killed imports and builds have left, unless another process works here. Writes nothing if there
	 * are none.
	 */
	async collectLeftovers(): Promise<void> {
		if (!(await this.#hasLeftovers())) return;
		const lock = await this.#openLockIfWritable();
		try {
			if (lock?.tryExclusive()) await this.#sweep();
		} catch (error) {
			throw writeFailure(this.directory, error);
		} finally {
			await lock?.close();
		}
	}

	/** Runs `work` while nobody can remove blobs. On a read-only file system nobody can anyway. */
	async shared<T>(work: () => Promise<T>): Promise<T> {
		const lock = await this.#openLockIfWritable();
		try {
			await lock?.take("shared");
			return await work();
		} finally {
			await lock?.close();
		}
	}

	/**
	 * Removes names. An image without names is removed, with its root file system and the blobs that no other image has.
	 * An image ID or digest means all names of its image.
	 *
	 * @returns what was done, one line each, as Docker says it
	 * @throws ImageError ERR_IMAGE_NOT_FOUND before anything is removed
	 */
	async remove(texts: readonly string[]): Promise<string[]> {
		const wanted = texts.map((text) => ({ text, image: this.find(text) }));
		if (wanted.length === 0) return [];
		const lock = await this.#openLock();
		try {
			await lock.take("exclusive");
			await this.#sweep();
			const report: string[] = [];
			for (const { text, image } of wanted) {
				const names = this.#names().filter((n) => n.digest === image.digest);
				const one = this.isName(text) ? formatReference(parseReference(text)) : undefined;
				const gone = names.map((n) => n.reference).filter((name) => one === undefined || name === one);
				/* A repository without a tag here has no digest here. */
				const kept = names.map((n) => n.reference).filter((name) => !gone.includes(name));
				const repository = one === undefined ? undefined : parseReference(one).repository;
				const isOf = (name: string) => parseReference(name).repository === repository;
				if (!kept.some((name) => !isDigest(name) && isOf(name))) gone.push(...kept.filter(isOf));
				for (const reference of gone) {
					await rm(this.namePath(reference), { force: true });
					report.push(`Untagged: ${reference}`);
				}
				if (this.#names().some((n) => n.digest === image.digest)) continue;
				await rm(this.recordPath(image.digest), { force: true });
				report.push(`Deleted: ${image.id}`);
			}
			await this.#removeUnused();
			return report;
		} catch (error) {
			throw writeFailure(this.directory, error);
		} finally {
			await lock.close();
		}
	}

	/** Gives an image one more name, which it takes from another if need be. @throws as `find` */
	async tag(text: string, name: string): Promise<void> {
		const reference = parseReference(name);
		if (reference.digest !== undefined) {
			throw new UsageError("ERR_IMAGE_REFERENCE", `Cannot tag an image as "${name}": a digest cannot be chosen`);
		}
		const staging = await this.stage();
		try {
			await staging.commit([{ image: this.find(text), names: [formatReference(reference)] }]);
		} finally {
			await staging.discard();
		}
	}

	/**
	 * Removes images with all their names.
	 *
	 * @param isUnwanted which; those that no name with a tag stands for when missing
	 * @returns what was done, as `remove`, and the bytes of blobs and root file systems that are free again
	 */
	async prune(
		isUnwanted: (image: NamedImage) => boolean = ({ names }) => names.length === 0,
	): Promise<{ report: string[]; freedBytes: number }> {
		const before = await this.#usedBytes();
		const unwanted = this.list().filter(isUnwanted);
		const report = await this.remove(unwanted.map((image) => image.digest));
		return { report, freedBytes: Math.max(0, before - (await this.#usedBytes())) };
	}

	async #usedBytes(): Promise<number> {
		let bytes = 0;
		for (const directory of [join(this.directory, "blobs/sha256"), this.rootfsDirectory]) {
			for (const name of await readdir(directory).catch(() => [])) {
				bytes += (await stat(join(directory, name)).catch(() => undefined))?.size ?? 0;
			}
		}
		return bytes;
	}

	recordPath(digest: string): string {
		return join(this.directory, "records", `${digest.slice("sha256:".length)}.json`);
	}

	namePath(reference: string): string {
		return join(this.directory, "names", `${createHash("sha256").update(reference).digest("hex")}.json`);
	}

	async #ready(): Promise<void> {
		try {
			for (const name of ["blobs/sha256", "records", "names", "staging"]) {
				await mkdir(join(this.directory, name), { recursive: true });
			}
		} catch (error) {
			throw writeFailure(this.directory, error);
		}
	}

	async #openLock(): Promise<FileLock> {
		try {
			return await FileLock.open(join(this.directory, "lock"));
		} catch (error) {
			throw writeFailure(this.directory, error);
		}
	}

	/** Undefined for a store that this user can only read. */
	async #openLockIfWritable(): Promise<FileLock | undefined> {
		try {
			return await FileLock.open(join(this.directory, "lock"));
		} catch (error) {
			if (errnoName(error) === "EROFS" || errnoName(error) === "EACCES") return undefined;
			throw writeFailure(this.directory, error);
		}
	}

	async #hasLeftovers(): Promise<boolean> {
		if ((await readdir(join(this.directory, "staging")).catch(() => [])).length > 0) return true;
		return (await readdir(this.rootfsDirectory).catch(() => [])).some((name) => name.startsWith("."));
	}

	async #sweep(): Promise<void> {
		for (const name of await readdir(join(this.directory, "staging")).catch(() => [])) {
			await rm(join(this.directory, "staging", name), { recursive: true, force: true });
		}
		for (const name of await readdir(this.rootfsDirectory).catch(() => [])) {
			if (name.startsWith(".")) await rm(join(this.rootfsDirectory, name), { force: true });
		}
	}

	/** Deletes blobs and root file systems that no record names. The caller holds the lock exclusively. */
	async #removeUnused(): Promise<void> {
		const used = new Set<string>();
		for (const image of this.#images()) {
			for (const digest of [image.digest, image.id, ...image.layers.map((layer) => layer.digest)]) {
				used.add(digest.slice("sha256:".length));
			}
		}
		const blobs = join(this.directory, "blobs/sha256");
		for (const name of await readdir(blobs)) if (!used.has(name)) await unlink(join(blobs, name));
		for (const name of await readdir(this.rootfsDirectory).catch(() => [])) {
			if (!used.has(name.slice(0, 64))) await rm(join(this.rootfsDirectory, name), { force: true });
		}
	}

	#images(): StoredImage[] {
		return this.#entries("records")
			.map((file) => this.#record(`sha256:${file.slice(0, 64)}`))
			.filter((image) => image !== undefined);
	}

	#record(digest: string): StoredImage | undefined {
		return this.#readJson<StoredImage>(this.recordPath(digest));
	}

	#digestOf(reference: string): string | undefined {
		return this.#readJson<{ digest: string }>(this.namePath(reference))?.digest;
	}

	#names(): { reference: string; digest: string }[] {
		return this.#entries("names")
			.map((file) => this.#readJson<{ reference: string; digest: string }>(join(this.directory, "names", file)))
			.filter((name) => name !== undefined)
			.sort((a, b) => (a.reference < b.reference ? -1 : 1));
	}

	#hasRepository(repository: string, digest: string): boolean {
		return this.#names().some((n) => n.digest === digest && parseReference(n.reference).repository === repository);
	}

	/** True for a name with a tag, false for an ID or a digest. */
	isName(text: string): boolean {
		return this.#findById(text) === undefined && parseReference(text).digest === undefined;
	}

	/** Finds an image by 4 or more digits of its ID or manifest digest. A name of such digits comes first. */
	#findById(text: string): StoredImage | undefined {
		const prefix = /^(?:sha256:)?([0-9a-f]{4,64})$/.exec(text)?.[1];
		if (prefix === undefined) return undefined;
		if (!text.startsWith("sha256:") && this.#digestOf(`${text}:latest`) !== undefined) return undefined;
		const found = this.#images().filter((image) =>
			[image.id, image.digest].some((digest) => digest.startsWith(`sha256:${prefix}`)),
		);
		if (found.length > 1) {
			throw new UsageError("ERR_IMAGE_AMBIGUOUS", `Cannot find image "${text}": ${found.length} begin so`, {
				hint: `Choose one of ${found.map((image) => image.id.slice(7, 19)).join(", ")}`,
			});
		}
		return found[0];
	}

	#entries(directory: string): string[] {
		try {
			return readdirSync(join(this.directory, directory)).filter((name) => /^[0-9a-f]{64}\.json$/.test(name));
		} catch (error) {
			if (errnoName(error) === "ENOENT") return [];
			throw new HostError("ERR_STORE_READ", `Cannot read ${join(this.directory, directory)}: ${explain(error)}`, {
				cause: error,
			});
		}
	}

	#readJson<T>(path: string): T | undefined {
		try {
			return JSON.parse(readFileSync(path, "utf8")) as T;
		} catch (error) {
			if (errnoName(error) === "ENOENT") return undefined;
			const hint = error instanceof SyntaxError ? "Delete that file and import the image again" : undefined;
			throw new HostError("ERR_STORE_READ", `Cannot read ${path}: ${explain(error)}`, { cause: error, hint });
		}
	}

	#notFound(name: string): ImageError {
		const names = this.#names()
			.map((n) => n.reference)
			.filter((name) => !isDigest(name));
		const near = similarNames(name, names);
		const hint =
			names.length === 0
				? "Fill the image store, which is empty: tsvmm image import PATH NAME"
				: near.length > 0
					? `Try ${near.join(" or ")}`
					: "See what is there: tsvmm image ls";
		return new ImageError("ERR_IMAGE_NOT_FOUND", `Cannot find image ${name}`, { hint });
	}
}

/** A name without a tag: "busybox@sha256:...". */
function isDigest(reference: string): boolean {
	return reference.includes("@");
}
