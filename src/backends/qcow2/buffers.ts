/*
 * Memory for clusters that are copied or unpacked. There is a fixed number of buffers, and who finds none waits: a guest
 * cannot ask for more than these.
 */
import { type ByteSource, Segments } from "../../base/segments.ts";
import { GuestRam } from "../../host/ram.ts";

const BUFFERS = 8;
const PAGE_BYTES = 4096;

/** A buffer on loan. */
export class ClusterBuffer {
	readonly source: ByteSource;

	constructor(source: ByteSource) {
		this.source = source;
	}

	get bytes(): Uint8Array {
		return this.source.bytes;
	}

	/** The first bytes as a list. */
	list(bytes: number): Segments {
		const list = new Segments();
		list.add(this.source, 0, bytes);
		return list;
	}
}

export class Buffers {
	readonly #bufferBytes: number;
	/** Mapped at the first use. */
	#ram: GuestRam | undefined;
	#free: ClusterBuffer[] = [];
	readonly #waiting: ((buffer: ClusterBuffer) => void)[] = [];

	/** @param leastBytes the least size of a buffer */
	constructor(leastBytes: number) {
		this.#bufferBytes = Math.ceil(leastBytes / PAGE_BYTES) * PAGE_BYTES;
	}

	/** Lends a buffer to `work`. */
	async with<T>(work: (buffer: ClusterBuffer) => Promise<T>): Promise<T> {
		const buffer = await this.#take();
		try {
			return await work(buffer);
		} finally {
			const next = this.#waiting.shift();
			if (next === undefined) this.#free.push(buffer);
			else next(buffer);
		}
	}

	close(): void {
		this.#ram?.close();
	}

	async #take(): Promise<ClusterBuffer> {
		if (this.#ram === undefined) this.#map();
		return this.#free.pop() ?? (await new Promise<ClusterBuffer>((resolve) => this.#waiting.push(resolve)));
	}

	#map(): void {
		this.#ram = GuestRam.map([{ gpa: 0, sizeBytes: BUFFERS * this.#bufferBytes }]);
		const { hva, buffer } = this.#ram.regions[0]!;
		this.#free = Array.from({ length: BUFFERS }, (_, i) => {
			const at = i * this.#bufferBytes;
			return new ClusterBuffer({ hva: hva + at, bytes: new Uint8Array(buffer, at, this.#bufferBytes) });
		});
	}
}
