/*
 * A kernel or initrd file while it is loaded. It is opened once, and read by position. Headers are read synchronously.
 * Large parts go from the file descriptor straight into guest RAM, on libuv's threads. A read past the end of the file
 * is an ImageError, so a loader need not compare a header with the file's size.
 */
import { closeSync, constants, fstatSync, openSync, read, readSync } from "node:fs";
import { promisify } from "node:util";
import { errnoName, explain, ImageError } from "../base/errors.ts";
import type { GuestMemory } from "../base/guest-memory.ts";

/* The most bytes of one read call. 2 GiB are refused, and an abort must not wait long. */
const READ_BYTES = 64 << 20;
const readAsync = promisify(read);

/** The error codes of one kind of image. */
export interface ImageCodes {
	/** "kernel", "initrd" */
	readonly what: string;
	readonly open: string;
	readonly truncated: string;
}

/** A part of a file, with the name that messages have for it. */
export interface FilePart {
	readonly position: number;
	readonly length: number;
	readonly part: string;
}

export class ImageFile {
	readonly path: string;
	readonly sizeBytes: number;
	readonly #codes: ImageCodes;
	readonly #fd: number;
	#open = true;

	/** @throws ImageError with the code `codes.open` when there is no such regular file */
	constructor(path: string, codes: ImageCodes) {
		this.path = path;
		this.#codes = codes;
		try {
			/* O_NONBLOCK: opening a FIFO without a writer must not block. */
			this.#fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
		} catch (cause) {
			const hint = errnoName(cause) === "ENOENT" ? `Check the path of the ${codes.what}` : undefined;
			throw new ImageError(codes.open, `Cannot open ${codes.what} ${path}: ${explain(cause)}`, { cause, hint });
		}
		const stat = fstatSync(this.#fd);
		if (!stat.isFile()) {
			closeSync(this.#fd);
			const found = stat.isDirectory() ? "it is a directory" : "it is not a regular file";
			throw new ImageError(codes.open, `Cannot open ${codes.what} ${path}: ${found}`);
		}
		this.sizeBytes = stat.size;
	}

	/** Closes the file, when no `load` is under way. */
	close(): void {
		if (!this.#open) return;
		this.#open = false;
		closeSync(this.#fd);
	}

	/** The first `length` bytes from `position`, or as many as the file has. */
	peek(position: number, length: number): Buffer {
		const available = Math.max(0, Math.min(length, this.sizeBytes - position));
		const bytes = Buffer.alloc(available);
		this.#fill(bytes, position);
		return bytes;
	}

	/** Exactly `length` bytes from `position`. @throws ImageError with the code `codes.truncated` */
	read(position: number, length: number, part: string): Buffer {
		this.#check(position, length, part);
		return this.peek(position, length);
	}

	/**
	 * Copies `length` bytes from `position`, which are `part` of the file, to guest memory, which must stay mapped until
	 * the copy is done. The caller has checked that [gpa, gpa + length) is RAM.
	 */
	async load(memory: GuestMemory, gpa: number, { position, length, part }: FilePart): Promise<void> {
		this.#check(position, length, part);
		for (let done = 0; done < length; ) {
			const at = gpa + done;
			const window = memory.windows.find((w) => at >= w.gpa && at < w.end)!;
			const take = Math.min(length - done, window.end - at, READ_BYTES);
			const into = window.bytes.subarray(at - window.gpa, at - window.gpa + take);
			done += await readAsync(this.#fd, into, 0, take, position + done).then(
				({ bytesRead }) => this.#some(bytesRead),
				(cause) => this.#unreadable(cause),
			);
		}
	}

	#check(position: number, length: number, part: string): void {
		if (position + length <= this.sizeBytes) return;
		throw this.#truncated(`${part} needs ${position + length} bytes, the file has ${this.sizeBytes}`);
	}

	#fill(bytes: Uint8Array, position: number): void {
		for (let done = 0; done < bytes.length; ) {
			let count: number;
			try {
				count = readSync(this.#fd, bytes, done, bytes.length - done, position + done);
			} catch (cause) {
				this.#unreadable(cause);
			}
			done += this.#some(count);
		}
	}

	#some(count: number): number {
		if (count === 0) throw this.#truncated("it became shorter while it was read");
		return count;
	}

	#unreadable(cause: unknown): never {
		const { open, what } = this.#codes;
		throw new ImageError(open, `Cannot read ${what} ${this.path}: ${explain(cause)}`, { cause });
	}

	#truncated(found: string): ImageError {
		const { truncated, what } = this.#codes;
		return new ImageError(truncated, `Cannot load ${what} ${this.path}: the file is truncated: ${found}`, {
			hint: "Copy or download it again",
		});
	}
}

/** The kernel does not fit into low RAM. */
export function tooBig(file: ImageFile, neededBytes: number, lowRamEnd: number): ImageError {
	const needed = Math.ceil(neededBytes / (1 << 20));
	return new ImageError(
		"ERR_KERNEL_TOO_BIG",
		`Cannot load kernel ${file.path}: it needs memory up to ${needed} MiB, the guest has ${Math.floor(lowRamEnd / (1 << 20))} MiB below 4 GiB`,
		{ hint: "Give the guest more memory" },
	);
}
