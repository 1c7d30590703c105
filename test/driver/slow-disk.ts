/*
 * A memory disk that answers when the test says so, in the test's order. It gives tests requests in flight.
 */
import type { BlockBackend, BlockResult } from "../../src/backends/contract.ts";
import type { Segments } from "../../src/base/segments.ts";

interface Held {
	token: number;
	what: "read" | "write" | "flush" | "discard" | "writeZeroes";
	run: () => void;
}

export class SlowDisk implements BlockBackend {
	readonly sizeBytes: number;
	readonly readOnly = false;
	readonly bytes: Uint8Array;
	/** Submitted and not answered. */
	readonly held: Held[] = [];
	submits = 0;
	closed = false;
	#queued: Held[] = [];
	#complete: (token: number, result: BlockResult) => void = () => undefined;

	constructor(sizeBytes: number) {
		this.sizeBytes = sizeBytes;
		this.bytes = new Uint8Array(sizeBytes);
	}

	/** Answers the held request at `index`, doing it first when it goes well. */
	answer(index = 0, result: BlockResult = "ok"): void {
		const [held] = this.held.splice(index, 1);
		if (held === undefined) throw new Error(`no request ${index} is held`);
		if (result === "ok") held.run();
		this.#complete(held.token, result);
	}

	/** An answer that nobody waits for. */
	answerToken(token: number): void {
		this.#complete(token, "ok");
	}

	start(complete: (token: number, result: BlockResult) => void): void {
		this.#complete = complete;
	}
	read(token: number, offset: number, into: Segments): void {
		const run = () => into.copyFrom(this.bytes.subarray(offset, offset + into.totalBytes));
		this.#queue(token, "read", run);
	}
	write(token: number, offset: number, from: Segments): void {
		this.#queue(token, "write", () => from.copyTo(this.bytes.subarray(offset, offset + from.totalBytes)));
	}
	flush(token: number): void {
		this.#queue(token, "flush", () => undefined);
	}
	discard(token: number, offset: number, length: number): void {
		this.#queue(token, "discard", () => this.bytes.fill(0, offset, offset + length));
	}
	writeZeroes(token: number, offset: number, length: number): void {
		this.#queue(token, "writeZeroes", () => this.bytes.fill(0, offset, offset + length));
	}
	submit(): void {
		this.submits++;
		this.held.push(...this.#queued);
		this.#queued = [];
	}
	async close(): Promise<void> {
		this.closed = true;
	}

	#queue(token: number, what: Held["what"], run: () => void): void {
		const all = [...this.held, ...this.#queued];
		if (all.some((held) => held.token === token)) throw new Error(`token ${token} is in flight already`);
		this.#queued.push({ token, what, run });
	}
}
