/*
 * A file that forgets at a crash, in any part, what was written since its last flush. It "crashes" after random requests, and
 * goes on.
 */
import { readFileSync } from "node:fs";
import type { BlockBackend, BlockResult } from "../../../src/backends/contract.ts";
import type { Segments } from "../../../src/base/segments.ts";
import type { Random } from "../../driver/random.ts";

const SECTOR = 512;
/** More than an image of these tests grows to. */
const ROOM = 8 << 20;

const CRASHES = 24;
const CRASH_PERCENT = 8;

interface Write {
	offset: number;
	bytes: Uint8Array;
}

export class CrashingFile implements BlockBackend {
	readonly sizeBytes: number;
	readonly readOnly = false;
	/** What a reader finds, and what a crash leaves for sure. */
	readonly #now = Buffer.alloc(ROOM);
	readonly #stable = Buffer.alloc(ROOM);
	#length: number;
	#unflushed: Write[] = [];
	#queued: { token: number; run: () => void }[] = [];
	#complete: (token: number, result: BlockResult) => void = () => undefined;

	readonly #random: Random;
	/** What the crashes have left. */
	readonly crashes: Uint8Array[] = [];

	static of(path: string, random: Random): CrashingFile {
		return new CrashingFile(readFileSync(path), random);
	}

	private constructor(bytes: Uint8Array, random: Random) {
		this.#random = random;
		this.sizeBytes = bytes.length;
		this.#length = bytes.length;
		this.#now.set(bytes);
		this.#stable.set(bytes);
	}

	/** Of the writes since the last flush a crash leaves each sector or not. */
	crash(): void {
		const left = Buffer.from(this.#stable);
		for (const { offset, bytes } of this.#unflushed) {
			const share = this.#random.pick([0, 50, 100]);
			for (let at = 0; at < bytes.length; at += SECTOR)
				if (this.#random.chance(share)) left.set(bytes.subarray(at, at + SECTOR), offset + at);
		}
		this.crashes.push(left.subarray(0, this.#length));
	}

	start(complete: (token: number, result: BlockResult) => void): void {
		this.#complete = complete;
	}

	read(token: number, offset: number, into: Segments): void {
		this.#later(token, () => into.copyFrom(this.#now.subarray(offset, offset + into.totalBytes)));
	}

	write(token: number, offset: number, from: Segments): void {
		this.#later(token, () => {
			const bytes = new Uint8Array(from.totalBytes);
			from.copyTo(bytes);
			this.#now.set(bytes, offset);
			this.#length = Math.max(this.#length, offset + bytes.length);
			this.#unflushed.push({ offset, bytes });
		});
	}

	flush(token: number): void {
		this.#later(token, () => {
			this.#stable.set(this.#now);
			this.#unflushed = [];
		});
	}

	discard(token: number, offset: number, length: number): void {
		this.writeZeroes(token, offset, length);
	}

	writeZeroes(token: number, offset: number, length: number): void {
		this.#later(token, () => {
			this.#now.fill(0, offset, offset + length);
			this.#unflushed.push({ offset, bytes: new Uint8Array(length) });
		});
	}

	submit(): void {
		for (const { token, run } of this.#queued.splice(0)) {
			/* In a turn of its own, so that a crash may come between. */
			setImmediate(() => {
				run();
				if (this.crashes.length < CRASHES && this.#random.chance(CRASH_PERCENT)) this.crash();
				this.#complete(token, "ok");
			});
		}
	}

	async close(): Promise<void> {
		this.#queued = [];
	}

	#later(token: number, run: () => void): void {
		this.#queued.push({ token, run });
	}
}
