/*
 * One import's private directory in the store. Blobs are written, hashed and synced here. `commit` renames them into
 * place: blobs first, then the record, then the names. So every visible image is whole. `discard` removes the rest; if
 * this process is killed, the next import does.
 */
import { createHash, randomUUID } from "node:crypto";
import { type FileHandle, mkdir, open, rename, rm, unlink } from "node:fs/promises";
import { join } from "node:path";
import { ImageError } from "../../base/errors.ts";
import { sync, writeDurably } from "../../host/durable-file.ts";
import type { FileLock } from "../../host/file-lock.ts";
import type { StoredImage } from "./config.ts";
import { writeFailure } from "./failure.ts";
import type { ImageStore } from "./store.ts";

export interface Blob {
	readonly digest: string;
	readonly sizeBytes: number;
}

export class Staging {
	readonly #store: ImageStore;
	readonly #lock: FileLock;
	readonly #directory: string;
	readonly #blobs = new Set<string>();

	private constructor(store: ImageStore, lock: FileLock, directory: string) {
		this.#store = store;
		this.#lock = lock;
		this.#directory = directory;
	}

	/** Takes over the lock. */
	static async create(store: ImageStore, lock: FileLock): Promise<Staging> {
		const directory = join(store.directory, "staging", randomUUID());
		await mkdir(directory);
		return new Staging(store, lock, directory);
	}

	/**
	 * Writes a blob.
	 *
	 * @param expected size and digest of its descriptor, which are checked; no more bytes than that are written
	 * @param file what to call it in messages
	 * @throws ImageError ERR_IMAGE_DIGEST, ERR_IMAGE_MALFORMED (size); HostError ERR_STORE_FULL
	 */
	async put(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, file: string, expected?: Blob): Promise<Blob> {
		const temporary = join(this.#directory, `.${randomUUID()}`);
		const hash = createHash("sha256");
		let sizeBytes = 0;
		const handle = await this.#write(open(temporary, "wx", 0o644));
		try {
			for await (const chunk of source) {
				sizeBytes += chunk.length;
				if (expected !== undefined && sizeBytes > expected.sizeBytes) throw wrongSize(file, expected, "more");
				hash.update(chunk);
				await this.#write(writeAll(handle, chunk));
			}
			await this.#write(handle.sync());
		} finally {
			await handle.close();
		}
		if (expected !== undefined && sizeBytes < expected.sizeBytes) throw wrongSize(file, expected, String(sizeBytes));
		const digest = `sha256:${hash.digest("hex")}`;
		if (expected !== undefined && digest !== expected.digest) {
			throw new ImageError(
				"ERR_IMAGE_DIGEST",
				`Cannot import image: ${file} should be ${expected.digest}, but its content is ${digest}`,
				{ hint: "Get the image again: it was damaged on its way or changed by hand" },
			);
		}
		await rename(temporary, this.#path(digest));
		this.#blobs.add(digest);
		return { digest, sizeBytes };
	}

	/**
	 * True when a blob need not be brought: this import has it, or the store, and there it is what its name says.
	 *
	 * @param signal ends the look at a large one
	 */
	async has({ digest, sizeBytes }: Blob, signal?: AbortSignal): Promise<boolean> {
		if (this.#blobs.has(digest)) return true;
		const handle = await open(this.#store.blobPath(digest), "r").catch(() => undefined);
		if (handle === undefined) return false;
		try {
			if ((await handle.stat()).size !== sizeBytes) return false;
			const hash = createHash("sha256");
			for await (const chunk of handle.createReadStream({ autoClose: false, highWaterMark: 1024 * 1024 })) {
				signal?.throwIfAborted();
				hash.update(chunk as Buffer);
			}
			return digest === `sha256:${hash.digest("hex")}`;
		} finally {
			await handle.close();
		}
	}

	/** Opens a blob of this import, or one that the store had before, for reading. */
	open(digest: string): Promise<FileHandle> {
		return open(this.#blobs.has(digest) ? this.#path(digest) : this.#store.blobPath(digest), "r");
	}

	/** A file without a name to unpack into. It is gone when closed. */
	async scratch(): Promise<FileHandle> {
		return this.#write(scratchFile(this.#directory));
	}

	/** Writes to a handle of `scratch`. A full disk is ERR_STORE_FULL. */
	async fill(handle: FileHandle, chunk: Uint8Array): Promise<void> {
		await this.#write(writeAll(handle, chunk));
	}

	/** Makes images and their names visible. Call it once, as the last step. */
	async commit(images: readonly { image: StoredImage; names: readonly string[] }[]): Promise<void> {
		await this.#write(this.#commit(images));
	}

	async #commit(images: readonly { image: StoredImage; names: readonly string[] }[]): Promise<void> {
		const store = this.#store;
		for (const digest of this.#blobs) await rename(this.#path(digest), store.blobPath(digest));
		await sync(join(store.directory, "blobs/sha256"));
		for (const { image } of images) await this.#place(store.recordPath(image.digest), image);
		for (const { image, names } of images) {
			for (const reference of names) {
				await this.#place(store.namePath(reference), { reference, digest: image.digest });
			}
		}
	}

	/** Removes what is left of this import and releases the lock. Call it after `commit`, too. */
	async discard(): Promise<void> {
		await rm(this.#directory, { recursive: true, force: true });
		await this.#lock.close();
	}

	#place(path: string, value: unknown): Promise<void> {
		const text = `${JSON.stringify(value, undefined, "\t")}\n`;
		return writeDurably(path, text, join(this.#directory, `.${randomUUID()}`));
	}

	#path(digest: string): string {
		return join(this.#directory, digest.slice("sha256:".length));
	}

	async #write<T>(work: Promise<T>): Promise<T> {
		try {
			return await work;
		} catch (error) {
			throw writeFailure(this.#store.directory, error);
		}
	}
}

/** A file without a name in `directory`, open for reading and writing. */
export async function scratchFile(directory: string): Promise<FileHandle> {
	const path = join(directory, `.${randomUUID()}`);
	const handle = await open(path, "wx+", 0o600);
	await unlink(path);
	return handle;
}

/** Writes all of `chunk`; a write may be short when the disk is nearly full. */
export async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
	for (let done = 0; done < chunk.length; ) {
		done += (await handle.write(chunk, done, chunk.length - done)).bytesWritten;
	}
}

function wrongSize(file: string, expected: Blob, found: string): ImageError {
	return new ImageError(
		"ERR_IMAGE_MALFORMED",
		`Cannot read image: ${file}: its descriptor's size is ${expected.sizeBytes} bytes, ${found === "more" ? "more are" : `${found} are`} there`,
	);
}
