/*
 * A disk in memory that answers late, each request as many milliseconds after it was submitted. So requests are in
 * flight whenever somebody looks.
 */
import type { BlockBackend, BlockResult } from "../../src/backends/contract.ts";
import type { Segments } from "../../src/base/segments.ts";

export class LateDisk implements BlockBackend {
	readonly sizeBytes: number;
	readonly readOnly = false;
	readonly #bytes: Uint8Array;
	readonly #latencyMs: number;
	readonly #timers = new Set<NodeJS.Timeout>();
	#queued: (() => void)[] = [];
	#complete: (token: number, result: BlockResult) => void = () => undefined;

	constructor(sizeBytes: number, latencyMs: number) {
		this.sizeBytes = sizeBytes;
		this.#bytes = new Uint8Array(sizeBytes);
		this.#latencyMs = latencyMs;
	}

	start(complete: (token: number, result: BlockResult) => void): void {
		this.#complete = complete;
	}
	read(token: number, offset: number, into: Segments): void {
		this.#queue(token, () => into.copyFrom(this.#bytes.subarray(offset, offset + into.totalBytes)));
	}
	write(token: number, offset: number, from: Segments): void {
		this.#queue(token, () => from.copyTo(this.#bytes.subarray(offset, offset + from.totalBytes)));
	}
	flush(token: number): void {
		this.#queue(token, () => undefined);
	}
	discard(token: number): void {
		this.#queue(token, () => undefined);
	}
	writeZeroes(token: number, offset: number, length: number): void {
		this.#queue(token, () => this.#bytes.fill(0, offset, offset + length));
	}
	submit(): void {
		for (const [i, run] of this.#queued.entries()) {
			const timer = setTimeout(
				() => {
					this.#timers.delete(timer);
					run();
				},
				this.#latencyMs * (1 + i / 4),
			);
			this.#timers.add(timer);
		}
		this.#queued = [];
	}
	async close(): Promise<void> {
		for (const timer of this.#timers) clearTimeout(timer);
	}

	#queue(token: number, run: () => void): void {
		this.#queued.push(() => {
			run();
			this.#complete(token, "ok");
		});
	}
}
