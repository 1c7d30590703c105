/*
 * A disk in memory: the smallest BlockBackend, for tests, students and scratch disks. As with a real disk, requests
 * wait until `submit`. Then all are done at once.
 */
import { UsageError } from "../base/errors.ts";
import type { Segments } from "../base/segments.ts";
import type { BlockBackend, BlockResult } from "./contract.ts";

const SECTOR_BYTES = 512;

/** A disk in this process's memory: for tests, scratch disks and experiments. */
export class MemoryDisk implements BlockBackend {
	readonly sizeBytes: number;
	readonly readOnly: boolean;
	/** The disk's bytes. */
	readonly bytes: Uint8Array;
	#waiting: { token: number; run: () => void }[] = [];
	#complete: (token: number, result: BlockResult) => void = () => undefined;

	/** @param content the disk itself, not a copy, or its size in bytes; @throws UsageError unless whole sectors */
	constructor(content: Uint8Array | number, readOnly = false) {
		this.bytes = typeof content === "number" ? new Uint8Array(content) : content;
		this.sizeBytes = this.bytes.length;
		this.readOnly = readOnly;
		if (this.sizeBytes === 0 || this.sizeBytes % SECTOR_BYTES !== 0) {
			throw new UsageError(
				"ERR_DISK_SIZE",
				`Cannot make a disk of ${this.sizeBytes} bytes: a multiple of ${SECTOR_BYTES} is wanted`,
			);
		}
	}

	start(complete: (token: number, result: BlockResult) => void): void {
		this.#complete = complete;
	}

	read(token: number, offsetBytes: number, into: Segments): void {
		this.#later(token, () => into.copyFrom(this.bytes.subarray(offsetBytes, offsetBytes + into.totalBytes)));
	}

	write(token: number, offsetBytes: number, from: Segments): void {
		this.#later(token, () => from.copyTo(this.bytes.subarray(offsetBytes, offsetBytes + from.totalBytes)));
	}

	flush(token: number): void {
		this.#later(token, () => undefined);
	}

	discard(token: number, offsetBytes: number, lengthBytes: number): void {
		this.writeZeroes(token, offsetBytes, lengthBytes);
	}

	writeZeroes(token: number, offsetBytes: number, lengthBytes: number): void {
		this.#later(token, () => this.bytes.fill(0, offsetBytes, offsetBytes + lengthBytes));
	}

	submit(): void {
		const batch = this.#waiting;
		this.#waiting = [];
		for (const { token, run } of batch) {
			run();
			this.#complete(token, "ok");
		}
	}

	async close(): Promise<void> {
		this.#waiting = [];
	}

	#later(token: number, run: () => void): void {
		this.#waiting.push({ token, run });
	}
}
