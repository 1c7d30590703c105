/*
 * Limits what one import, or the build of one root file system, may take of this host. An image comes from a stranger.
 * All that costs memory, disk or time is counted as it is read, over all layers and all images of an archive. A count
 * beyond its limit ends the work with ERR_IMAGE_TOO_LARGE.
 */
import { getHeapStatistics } from "node:v8";
import { ImageError } from "../../base/errors.ts";

const KiB = 2 ** 10;
const MiB = 2 ** 20;
const GiB = 2 ** 30;

/** docs/limitations.md has them, too. Real images stay far below each of them. */
export interface ImageLimits {
	/** Images in one archive. */
	readonly images: number;
	/** Names in all layers, with the directories that paths imply. */
	readonly entries: number;
	/** Bytes of memory for names, targets and inodes. At most half of Node's heap. */
	readonly heldBytes: number;
	/** Bytes of all paths that are looked up, with the symbolic links on the way. This bounds the time. */
	readonly walkedBytes: number;
	/** Bytes of the extended attributes of all files. */
	readonly xattrBytes: number;
	/** Different owners and groups: squashfs numbers them with 16 bits. */
	readonly owners: number;
	/** Bytes written: unpacked archives and layers, copied blobs. */
	readonly writtenBytes: number;
	/** Written bytes for each byte of the input, beyond the first `freeBytes`. */
	readonly ratio: number;
	readonly freeBytes: number;
}

const IMAGE_LIMITS: ImageLimits = {
	images: 1000,
	entries: 2_000_000,
	heldBytes: 1.5 * GiB,
	walkedBytes: 256 * MiB,
	xattrBytes: 256 * MiB,
	owners: 65_000,
	writtenBytes: 128 * GiB,
	ratio: 100,
	freeBytes: 4 * GiB,
};

/** The most bytes of extended attributes and their names that one file may have. Linux takes 64 KiB for one value. */
export const MAX_FILE_XATTRS = 128 * KiB;

/** Bytes of V8's heap for an inode, its directory entry and the headers it was read from. Measured and rounded up. */
const ENTRY_BYTES = 512;

export class ImageBudget {
	readonly #limits: ImageLimits;
	#entries = 0;
	#heldBytes = 0;
	#walkedBytes = 0;
	#xattrBytes = 0;
	#inputBytes = 0;
	#writtenBytes = 0;

	/** @param limits each replaces the one of IMAGE_LIMITS */
	constructor(limits: Partial<ImageLimits> = {}) {
		const heapBytes = getHeapStatistics().heap_size_limit;
		const all = { ...IMAGE_LIMITS, ...limits };
		this.#limits = { ...all, heldBytes: Math.min(all.heldBytes, Math.floor(heapBytes / 2)) };
	}

	/** Counts the input's bytes. The limit of written bytes grows with them. */
	addInput(bytes: number): void {
		this.#inputBytes += bytes;
	}

	/** @throws ImageError ERR_IMAGE_TOO_LARGE, as all below */
	addWritten(file: string, bytes: number): void {
		this.#writtenBytes += bytes;
		const { writtenBytes, freeBytes, ratio } = this.#limits;
		if (this.#writtenBytes > writtenBytes) throw tooLarge(file, this.#writtenBytes, "bytes unpacked", writtenBytes);
		const most = freeBytes + ratio * this.#inputBytes;
		if (this.#writtenBytes > most) {
			throw tooLarge(file, this.#writtenBytes, `bytes unpacked from ${this.#inputBytes}`, most);
		}
	}

	checkImages(file: string, count: number): void {
		if (count > this.#limits.images) throw tooLarge(file, count, "images", this.#limits.images);
	}

	checkOwners(file: string, count: number): void {
		if (count > this.#limits.owners) throw tooLarge(file, count, "different owners", this.#limits.owners);
	}

	/** Counts a name and what it holds: `textBytes` are its path and target. */
	addEntry(file: string, textBytes: number): void {
		if (++this.#entries > this.#limits.entries) {
			throw tooLarge(file, this.#entries, "names in all layers", this.#limits.entries);
		}
		this.hold(file, ENTRY_BYTES + textBytes);
	}

	/** Counts memory that stays in use. */
	hold(file: string, bytes: number): void {
		this.#heldBytes += bytes;
		if (this.#heldBytes > this.#limits.heldBytes) {
			throw tooLarge(file, this.#heldBytes, "bytes of memory for names and targets", this.#limits.heldBytes);
		}
	}

	/** Counts the bytes of a path that is looked up. */
	addWalk(file: string, bytes: number): void {
		this.#walkedBytes += bytes;
		if (this.#walkedBytes > this.#limits.walkedBytes) {
			throw tooLarge(file, this.#walkedBytes, "bytes of paths and symbolic links followed", this.#limits.walkedBytes);
		}
	}

	/** Counts the extended attributes of one file. */
	addXattrs(file: string, bytes: number): void {
		this.#xattrBytes += bytes;
		if (this.#xattrBytes > this.#limits.xattrBytes) {
			throw tooLarge(file, this.#xattrBytes, "bytes of extended attributes", this.#limits.xattrBytes);
		}
	}
}

/** "layer sha256:...: 2000001 names in all layers, at most 2000000 are accepted" */
export function tooLarge(file: string, found: number, what: string, most: number): ImageError {
	return new ImageError(
		"ERR_IMAGE_TOO_LARGE",
		`Cannot read image: ${file}: ${found} ${what}, at most ${Math.floor(most)} are accepted`,
		{ hint: "Read in docs/limitations.md what an image may take" },
	);
}
