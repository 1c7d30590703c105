/*
 * What an import reads: a directory or a tar, as a set of files by path. It never reads a file outside. A symbolic link
 * in a directory may not lead out of it. A link in a tar is looked up among the tar's members.
 */
import { constants } from "node:fs";
import { type FileHandle, lstat, open, realpath } from "node:fs/promises";
import { join, sep } from "node:path";
import { errnoName, explain, ImageError } from "../../base/errors.ts";
import { type ImageBudget, tooLarge } from "./budget.ts";
import { MAX_DOCUMENT_BYTES } from "./documents.ts";
import { escapes, malformed } from "./failure.ts";
import { Pace } from "./pace.ts";
import { bytePath, chunks, type FileRange, readRange, shown, type TarEntry } from "./tar/entry.ts";
import { readTar } from "./tar/read.ts";

export interface Archive {
	/** True when there is a file (or a link to one) at the path. */
	has(path: string): Promise<boolean>;
	/** A whole small file. @throws ImageError ERR_IMAGE_MALFORMED when missing or larger than 4 MiB */
	read(path: string): Promise<Buffer>;
	/** A file's bytes in chunks. @throws ImageError ERR_IMAGE_MALFORMED when missing */
	stream(path: string): Promise<AsyncIterable<Uint8Array>>;
}

/** Refuses absolute paths and "..", which no well-formed archive has. */
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

/** Passes bytes on to the store, counts them, and stops when the signal aborts. */
async function* charged(
	source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
	file: string,
	budget: ImageBudget,
	signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
	for await (const chunk of source) {
		signal?.throwIfAborted();
		budget.addWritten(file, chunk.length);
		yield chunk;
	}
}

export class DirectoryArchive implements Archive {
	readonly #directory: string;
	readonly #budget: ImageBudget;
	readonly #signal: AbortSignal | undefined;

	constructor(directory: string, budget: ImageBudget, signal?: AbortSignal) {
		this.#directory = directory;
		this.#budget = budget;
		this.#signal = signal;
	}

	async has(path: string): Promise<boolean> {
		return (await lstat(join(this.#directory, path)).catch(() => undefined)) !== undefined;
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
		this.#budget.addInput((await handle.stat()).size);
		return charged(handle.createReadStream({ highWaterMark: 1024 * 1024 }), path, this.#budget, this.#signal);
	}

	async #open(path: string): Promise<FileHandle> {
		checkPath(path, "an image's file");
		try {
			const root = await realpath(this.#directory);
			const real = await realpath(join(root, path));
			if (real !== root && !real.startsWith(root + sep)) throw escapes(path, real, "is outside the layout's directory");
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

/**
 * An archive of images has a few files per layer. A root file system may have very many, so the list of its files is
 * not kept.
 */
const MAX_MEMBERS = 100_000;
/** A document never names a longer path. */
const MAX_PATH = 4096;
/** Bytes of V8's heap per member, without its path and target, rounded up. */
const MEMBER_BYTES = 256;
const MARKS = ["oci-layout", "manifest.json"];

type Member = Pick<TarEntry, "type" | "target" | "offset" | "size">;

export class TarArchive implements Archive {
	readonly #range: FileRange;
	readonly #file: string;
	readonly #budget: ImageBudget;
	readonly #signal: AbortSignal | undefined;
	readonly #members = new Map<string, Member>();
	#count = 0;
	#newest = 0;

	private constructor(range: FileRange, file: string, budget: ImageBudget, signal?: AbortSignal) {
		this.#range = range;
		this.#file = file;
		this.#budget = budget;
		this.#signal = signal;
	}

	/**
	 * Reads the list of members, but not their content.
	 *
	 * @param file what to call the archive in messages
	 * @throws ImageError ERR_IMAGE_MALFORMED, ERR_IMAGE_TOO_LARGE; the signal's reason
	 */
	static async open(range: FileRange, file: string, budget: ImageBudget, signal?: AbortSignal): Promise<TarArchive> {
		const archive = new TarArchive(range, file, budget, signal);
		const pace = new Pace(signal);
		for (const entry of readTar(range, file)) {
			const turn = pace.step();
			if (turn !== undefined) await turn;
			archive.#add(entry);
		}
		return archive;
	}

	#add(entry: TarEntry): void {
		if (entry.mtime > this.#newest) this.#newest = entry.mtime;
		const path = entry.path.length > MAX_PATH ? entry.path : plain(entry.path);
		/* The root directory itself is no member. */
		if (path === "") return;
		this.#count++;
		const { type, offset, size } = entry;
		const target = entry.target.length > MAX_PATH ? "" : entry.target;
		if (path.length > MAX_PATH || (this.#count > MAX_MEMBERS && !MARKS.includes(path))) return;
		this.#budget.hold(this.#file, MEMBER_BYTES + path.length + target.length);
		/* The last of equal names counts, as in extraction. */
		this.#members.set(path, { type, target, offset, size });
	}

	/**
	 * The kind of the archive, told by a file that only that kind has.
	 *
	 * @throws ImageError ERR_IMAGE_TOO_LARGE when an archive of images has more than 100,000 files
	 */
	get kind(): "oci-layout" | "docker-archive" | "rootfs" {
		const mark = MARKS.find((path) => this.#members.has(path));
		if (mark === undefined) return "rootfs";
		if (this.#count > MAX_MEMBERS)
			throw tooLarge(this.#file, this.#count, "files in an archive of images", MAX_MEMBERS);
		return mark === "oci-layout" ? "oci-layout" : "docker-archive";
	}

	/** All bytes of the archive itself. */
	whole(): AsyncIterable<Uint8Array> {
		return charged(chunks(this.#range), this.#file, this.#budget, this.#signal);
	}

	/** Seconds since the epoch of the newest member; 0 when there is none. */
	get newest(): number {
		return this.#newest;
	}

	get isEmpty(): boolean {
		return this.#count === 0;
	}

	async has(path: string): Promise<boolean> {
		return this.#members.has(bytePath(path));
	}

	async read(path: string): Promise<Buffer> {
		const entry = this.#find(path);
		checkSize(path, entry.size);
		return readRange(this.#range, entry.offset, entry.size);
	}

	async stream(path: string): Promise<AsyncIterable<Uint8Array>> {
		const { offset, size } = this.#find(path);
		return charged(chunks(this.#range, offset, size), path, this.#budget, this.#signal);
	}

	/** Old docker-archives store an equal layer once and link to it: "../ID/layer.tar" from within a directory. */
	#find(path: string): Member {
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

/** The path of the member that a symbolic link in the archive leads to. */
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
