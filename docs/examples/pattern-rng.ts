/*
 * A device in a file, for `tsvmm boot --device pattern-rng.ts`. It claims to be an entropy device (virtio 1.2 §5.4), so
 * Linux binds its virtio_rng driver to it, and /dev/hwrng gives the text of this file again and again. Change the text
 * while the guest runs: the next read has the new one.
 */
import type { Activation, VirtioDevice, Virtqueue } from "tsvmm/virtio";

export default class PatternRng implements VirtioDevice {
	readonly name = "pattern";
	readonly deviceId = 4; /* entropy */
	readonly features = 0n;
	readonly queueSizes = [8];
	readonly config = new Uint8Array(0);
	readonly #text: string;
	#queue: Virtqueue | undefined;

	/** @param options of the command line: `--device pattern-rng.ts,text=hello` */
	constructor({ text = "I am not random" }: Record<string, string>) {
		this.#text = `${text}\n`;
	}

	activate({ queues }: Activation): void {
		this.#queue = queues[0];
	}

	/* Each chain is a buffer to fill. The guest chose its length, so we bound it. */
	notify(): void {
		const queue = this.#queue;
		for (let chain = queue?.pop(); chain !== undefined; chain = queue?.pop()) {
			const bytes = Buffer.alloc(Math.min(chain.writable.totalBytes, 4096), this.#text);
			queue?.push(chain, chain.writable.copyFrom(bytes));
		}
		queue?.flush();
	}

	reset(): void {
		this.#queue = undefined;
	}

	async close(): Promise<void> {
		this.reset();
	}
}
