/*
 * The file of an image, or its backing disk: requests as promises. They go to a BlockBackend, whose tokens are given out
 * here. A batch ends in the next microtask, or when the device submits.
 */
import { Segments } from "../../base/segments.ts";
import type { BlockBackend, BlockResult } from "../contract.ts";

/** The most requests in flight; others wait. */
const MAX_IN_FLIGHT = 1024;

/** What a request ends with when the host could not do it. */
export class RequestFailed extends Error {}

export class ImageFile {
	readonly backend: BlockBackend;
	/** Bytes that are there. What is behind them reads as zeroes. */
	endBytes: number;
	readonly #answers: ((result: BlockResult) => void)[] = [];
	readonly #free: number[] = [];
	readonly #waiting: (() => void)[] = [];
	#submitting = false;

	/** It owns the backend. */
	constructor(backend: BlockBackend) {
		this.backend = backend;
		this.endBytes = backend.sizeBytes;
		backend.start((token, result) => {
			this.#free.push(token);
			this.#answers[token]!(result);
			this.#waiting.shift()?.();
		});
	}

	/** Fills `into`, beyond the end with zeroes. @throws RequestFailed */
	async read(offset: number, into: Segments): Promise<void> {
		const there = Math.max(0, Math.min(this.endBytes - offset, into.totalBytes));
		if (there < into.totalBytes) into.slice(there, into.totalBytes, new Segments()).zero();
		if (there === 0) return;
		const part = there === into.totalBytes ? into : into.slice(0, there, new Segments());
		await this.#request((token) => this.backend.read(token, offset, part));
	}

	/** @throws RequestFailed */
	async write(offset: number, from: Segments): Promise<void> {
		await this.#request((token) => this.backend.write(token, offset, from));
		this.endBytes = Math.max(this.endBytes, offset + from.totalBytes);
	}

	/** Makes what was written stable. @throws RequestFailed */
	async flush(): Promise<void> {
		await this.#request((token) => this.backend.flush(token));
	}

	/** The host may take back the room of this range. */
	async discard(offset: number, bytes: number): Promise<void> {
		await this.#request((token) => this.backend.discard(token, offset, bytes)).catch(() => undefined);
	}

	/** Ends a batch. */
	submit(): void {
		this.#submitting = false;
		this.backend.submit();
	}

	async #request(queue: (token: number) => void): Promise<void> {
		while (this.#answers.length - this.#free.length >= MAX_IN_FLIGHT)
			await new Promise<void>((resolve) => this.#waiting.push(resolve));
		const token = this.#free.pop() ?? this.#answers.length;
		const answered = new Promise<BlockResult>((resolve) => {
			this.#answers[token] = resolve;
		});
		queue(token);
		if (!this.#submitting) {
			this.#submitting = true;
			queueMicrotask(() => {
				if (this.#submitting) this.submit();
			});
		}
		const result = await answered;
		if (result !== "ok") throw new RequestFailed(result);
	}
}
