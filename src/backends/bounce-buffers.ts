/*
 * Memory that a request without the page cache goes through when the driver's buffers are not aligned for that. There is a
 * fixed number of buffers, whatever a guest asks for. A request that finds none waits for one.
 */
import type { ByteSource } from "../base/segments.ts";
import { GuestRam } from "../host/ram.ts";

/** A longer request goes in pieces of this. */
export const BOUNCE_BYTES = 256 * 1024;
const BUFFERS = 16;

export class BounceBuffers {
	/** Mapped at the first use. */
	#ram: GuestRam | undefined;
	#free: ByteSource[] = [];
	readonly #waiting: number[] = [];

	/** @returns a buffer of BOUNCE_BYTES; undefined when there is none, and then `give` names the token later */
	take(token: number): ByteSource | undefined {
		if (this.#ram === undefined) this.#map();
		const buffer = this.#free.pop();
		if (buffer === undefined) this.#waiting.push(token);
		return buffer;
	}

	/** @returns the token that has waited longest, which may take a buffer now */
	give(buffer: ByteSource): number | undefined {
		this.#free.push(buffer);
		return this.#waiting.shift();
	}

	close(): void {
		this.#ram?.close();
	}

	#map(): void {
		this.#ram = GuestRam.map([{ gpa: 0, sizeBytes: BUFFERS * BOUNCE_BYTES }]);
		const { hva, buffer } = this.#ram.regions[0]!;
		this.#free = Array.from({ length: BUFFERS }, (_, i) => {
			const at = i * BOUNCE_BYTES;
			return { hva: hva + at, bytes: new Uint8Array(buffer, at, BOUNCE_BYTES) };
		});
	}
}
