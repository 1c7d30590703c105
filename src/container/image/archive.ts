/*
 * Where an import reads from: a folder or a tar, both as a set of files by path. Nothing outside is ever reached: in a
 * folder a symbolic link may not lead out of it, in a tar links are looked up among its own members.
 */
import { constants } from "node:fs";
import { type FileHandle, lstat, open, realpath } from "node:fs/promises";
import { join, sep } from "node:path";
import { errnoName, explain, ImageError } from "../../base/errors.ts";
import { MAX_DOCUMENT_BYTES } from "./documents.ts";
import { escapes, malformed } from "./failure.ts";
import { bytePath, chunks, type FileRange, readRange, shown, type TarEntry } from "./tar/entry.ts";
import { readTar } from "./tar/read.ts";

export interface Archive {
	/** True when there is a file (or a link to one) at the path. */
	has(path: string): Promise<boolean>;
	/** A whole small file. @throws ImageError ERR_IMAGE_MALFORMED when missing or larger than 4 MiB */
	read(path: string): Promise<Buffer>;
	/** A file's bytes in chunks. @throws ImageError ERR_IMAGE_MALFORMED when missing */
	stream(path: string): Promise<AsyncIterable<Uint8Array> | Iterable<Uint8Array>>;
}

/** Refuses what an honest archive never says: absolute paths and "..". */
function checkPath(path: string, file: string): void {
	if (path.startsWith("/")) throw escapes(file, path, "is an absolute path");
	if (path.split("/").includes("..")) throw escapes(file, path, "leads out of the archive");
}

function missing(path: string, cause?: unknown): ImageError {
	return malformed(path, "the file is missing", cause);
}

function checkSize(path: string, size: number): void {
	if (size > MAX_DOCUMENT_BYTES) throw malformed(path, `${size} bytes are too many for a JSON document`);
}

export class FolderArchive implements Archive {
	readonly #folder: string;

	constructor(folder: string) {
		this.#folder = folder;
	}

	async has(path: string): Promise<boolean> {
		return (await lstat(join(this.#folder, path)).catch(() => undefined)) !== undefined;
	}

	async read(path: string): Promise<Buffer> {
		const handle = await this.#open(path);
		try {
			checkSize(path, (await handle.stat()).size);
			return await handle.readFile();
		} finally {
			await handle.close();
		}
	}

	async stream(path: string): Promise<AsyncIterable<Uint8Array>> {
		const handle = await this.#open(path);
		return handle.createReadStream({ highWaterMark: 1024 * 1024 });
	}

	async #open(path: string): Promise<FileHandle> {
		checkPath(path, "an image's file");
		try {
			const root = await realpath(this.#folder);
			const real = await realpath(join(root, path));
			if (real !== root && !real.startsWith(root + sep)) throw escapes(path, real, "is outside the layout's folder");
			/* O_NONBLOCK: a FIFO in place of a blob must not hang us. */
			const handle = await open(real, constants.O_RDONLY | constants.O_NONBLOCK);
			if ((await handle.stat()).isFile()) return handle;
			await handle.close();
			throw malformed(path, "it is not a regular file");
		} catch (error) {
			if (error instanceof ImageError) throw error;
			if (errnoName(error) === "ENOENT") throw missing(path, error);
			throw malformed(path, explain(error), error);
		}
	}
}

const MAX_LINKS = 8;

export class TarArchive implements Archive {
	readonly #range: FileRange;
	readonly #members = new Map<string, TarEntry>();
	/** Seconds since the epoch of the newest member; 0 when there is none. */
	readonly newest: number = 0;

	/** Reads the whole list of members, not their content. */
	constructor(range: FileRange, file: string) {
		this.#range = range;
		for (const entry of readTar(range, file)) {
			const path = plain(entry.path);
			/* The last of equal names counts, as in extraction. The root folder itself is no member. */
			if (path !== "") this.#members.set(path, entry);
			if (entry.mtime > this.newest) this.newest = entry.mtime;
		}
	}

	get isEmpty(): boolean {
		return this.#members.size === 0;
	}

	async has(path: string): Promise<boolean> {
		return this.#members.has(bytePath(path));
	}

	async read(path: string): Promise<Buffer> {
		const entry = this.#file(path);
		checkSize(path, entry.size);
		return readRange(this.#range, entry.offset, entry.size);
	}

	async stream(path: string): Promise<Iterable<Uint8Array>> {
		const entry = this.#file(path);
		return chunks(this.#range, entry.offset, entry.size);
	}

	/** Old docker-archives store an equal layer once and link to it: "../ID/layer.tar" from within a folder. */
	#file(path: string): TarEntry {
		checkPath(path, "an image's file");
		let at = plain(bytePath(path));
		for (let i = 0; i < MAX_LINKS; i++) {
			const entry = this.#members.get(at);
			if (entry === undefined) throw missing(path);
			if (entry.type === "file") return entry;
			if (entry.type === "link") at = plain(entry.target);
			else if (entry.type === "symlink") at = resolve(at, entry.target, path);
			else throw malformed(path, "it is not a regular file");
		}
		throw malformed(path, "too many links");
	}
}

function plain(path: string): string {
	return path
		.split("/")
		.filter((part) => part !== "" && part !== ".")
		.join("/");
}

/** Where a symbolic link in the archive leads, as a member's path. */
function resolve(link: string, target: string, file: string): string {
	if (target.startsWith("/")) throw escapes(file, shown(target), "is an absolute link");
	const parts = link.split("/").slice(0, -1);
	for (const part of target.split("/")) {
		if (part === "" || part === ".") continue;
		if (part !== "..") parts.push(part);
		else if (parts.pop() === undefined) throw escapes(file, shown(target), "leads out of the archive");
	}
	return parts.join("/");
}
