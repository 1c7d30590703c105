/*
 * A disk in a qcow2 image (QEMU, docs/interop/qcow2.txt). What the image has not comes from its backing disk, which is never
 * written.
 *
 *     read:   Mapping.find -> the file, the backing disk, zeroes, or a compressed cluster
 *     write:  Mapping.find -> in place; or a new cluster: Refcounts.allocate -> data to the file -> Mapping.setData
 *     flush:  refcounts to the file, fdatasync, L2 tables to the file, fdatasync; then clusters that were freed are free
 *
 * This order makes a crash harmless at any time: no table that is in the file leads to a cluster that counts as free, or to
 * one whose data is not there. At worst clusters are leaked, which `qemu-img check -r leaks` frees.
 */
import { type Enter, enterDirectly } from "../../base/enter.ts";
import { logRateLimited } from "../../base/log.ts";
import type { Segments } from "../../base/segments.ts";
import type { BlockBackend, BlockResult } from "../contract.ts";
import { Eraser } from "./eraser.ts";
import { Image, type ImageParts } from "./image.ts";
import { RequestFailed } from "./image-file.ts";
import { Reader } from "./reader.ts";
import { Corrupt } from "./refcounts.ts";
import { Writer } from "./writer.ts";

/** How long `close` waits for requests, in ms. */
const CLOSE_MS = 30_000;
const PAGE_BYTES = 4096;

/** What a disk is made of. */
export interface Qcow2DiskOptions extends ImageParts {
	readonly path: string;
	/** The way into the machine that the disk belongs to; direct when missing. */
	readonly enter?: Enter | undefined;
}

/** A disk in a qcow2 image, locked while it is open; `openQcow2` opens one. */
export class Qcow2Disk implements BlockBackend {
	readonly sizeBytes: number;
	readonly readOnly: boolean;
	readonly blockBytes: number;
	readonly physicalBlockBytes: number;
	readonly #name: string;
	readonly #enter: Enter;
	readonly #image: Image;
	readonly #reader: Reader;
	readonly #writer: Writer;
	readonly #eraser: Eraser;
	/** Requests that wait for `submit`, and those that run. */
	#queued: (() => void)[] = [];
	readonly #running = new Set<Promise<unknown>>();
	#complete: (token: number, result: BlockResult) => void = () => undefined;
	#closed: Promise<void> | undefined;

	/** It owns the files. */
	constructor({ path, enter = enterDirectly, ...parts }: Qcow2DiskOptions) {
		this.#name = `disk ${path}`;
		this.#enter = enter;
		this.#image = new Image(parts);
		this.#reader = new Reader(this.#image);
		this.#writer = new Writer(this.#image, this.#reader);
		this.#eraser = new Eraser(this.#image, this.#writer);
		this.readOnly = parts.file.backend.readOnly;
		this.blockBytes = this.#image.blockBytes;
		this.physicalBlockBytes = Math.max(PAGE_BYTES, this.blockBytes);
		this.sizeBytes = parts.header.sizeBytes - (parts.header.sizeBytes % this.blockBytes);
	}

	start(complete: (token: number, result: BlockResult) => void): void {
		this.#complete = complete;
	}

	read(token: number, offsetBytes: number, into: Segments): void {
		this.#queue(token, () => this.#reader.read(offsetBytes, into));
	}

	write(token: number, offsetBytes: number, from: Segments): void {
		this.#queue(token, () => this.#writer.write(offsetBytes, from));
	}

	flush(token: number): void {
		this.#queue(token, () => (this.readOnly ? Promise.resolve() : this.#image.flush()));
	}

	discard(token: number, offsetBytes: number, lengthBytes: number): void {
		this.#queue(token, () => this.#eraser.discard(offsetBytes, lengthBytes));
	}

	writeZeroes(token: number, offsetBytes: number, lengthBytes: number, mayUnmap: boolean): void {
		this.#queue(token, () => this.#eraser.writeZeroes(offsetBytes, lengthBytes, mayUnmap));
	}

	submit(): void {
		for (const run of this.#queued.splice(0)) run();
		this.#image.file.submit();
		this.#image.backing?.submit();
	}

	/** Brings the tables into the file, so that a copy of it has all that the guest has written. */
	async quiesce(): Promise<void> {
		if (this.readOnly) return;
		try {
			/* The second time with the refcounts of what is free since the first. */
			for (let times = 0; times < 2; times++) await this.#image.flush();
		} catch (error) {
			this.#resultOf(error);
		}
	}

	close(): Promise<void> {
		this.#closed ??= this.#end();
		return this.#closed;
	}

	async #end(): Promise<void> {
		this.#queued = [];
		this.#complete = () => undefined;
		const settled = Promise.allSettled([...this.#running]).then(() => this.quiesce());
		let timer: NodeJS.Timeout | undefined;
		const late = new Promise<void>((resolve) => {
			timer = setTimeout(resolve, CLOSE_MS);
		});
		await Promise.race([settled, late]);
		clearTimeout(timer);
		await this.#image.close();
	}

	/** Runs a request at `submit`, and answers it. */
	#queue(token: number, work: () => Promise<void>): void {
		this.#queued.push(() => {
			const running = work()
				.then(
					(): BlockResult => "ok",
					(error: unknown) => this.#resultOf(error),
				)
				.then((result) => {
					this.#running.delete(running);
					this.#enter(this.#name, () => this.#complete(token, result));
				});
			this.#running.add(running);
		});
	}

	/** An error that is none of the image's or the host's ends the machine. */
	#resultOf(error: unknown): BlockResult {
		this.#enter(this.#name, () => {
			if (error instanceof Corrupt) {
				logRateLimited(this.#name, "error", `the image is corrupt: ${error.message}`);
				if (!this.readOnly) this.#image.markCorrupt();
			} else if (!(error instanceof RequestFailed)) throw error;
		});
		return "io";
	}
}
