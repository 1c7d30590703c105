/*
 * Zeroes and discards of the guest: whole clusters by their L2 entries alone, parts of clusters by writes.
 */
import type { Image } from "./image.ts";
import { RequestFailed } from "./image-file.ts";
import { Pieces } from "./pieces.ts";
import type { Writer } from "./writer.ts";

export class Eraser {
	readonly #image: Image;
	readonly #writer: Writer;

	constructor(image: Image, writer: Writer) {
		this.#image = image;
		this.#writer = writer;
	}

	/** @throws RequestFailed; Corrupt */
	async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
		const { header, backing } = this.#image;
		const canEmpty = header.version >= 3 || (mayUnmap && backing === undefined);
		await Pieces.of(length, async (done) => {
			const [cluster, skip] = this.#image.place(offset + done);
			const left = length - done;
			if (skip !== 0 || left < this.#image.clusterBytes || !canEmpty) {
				const bytes = Math.min(this.#image.clusterBytes - skip, left);
				await this.#writer.write(offset + done, this.#image.zeroes(bytes));
				return bytes;
			}
			const whole = Math.floor(left / this.#image.clusterBytes);
			const clusters = await this.#empty(cluster, whole, { zero: header.version >= 3, keep: !mayUnmap });
			return clusters * this.#image.clusterBytes;
		});
	}

	/** Only whole clusters. With a backing disk they read as zeroes then, not as what it has. */
	async discard(offset: number, length: number): Promise<void> {
		const { header, backing } = this.#image;
		if (backing !== undefined && header.version < 3) return;
		const first = this.#image.clustersOf(offset);
		const count = Math.floor((offset + length) / this.#image.clusterBytes) - first;
		await Pieces.of(count, (done) =>
			this.#empty(first + done, count - done, { zero: backing !== undefined, keep: false }),
		);
	}

	/**
	 * Makes clusters read as zeroes without writing to them.
	 *
	 * @param how.zero by the flag of version 3, not by having no cluster
	 * @param how.keep their places
	 * @returns how many are done
	 */
	async #empty(cluster: number, most: number, { zero, keep }: { zero: boolean; keep: boolean }): Promise<number> {
		if (this.#image.isCorrupt) throw new RequestFailed("corrupt");
		return await this.#image.mapping.find(cluster, most, async (extent) => {
			const { clusters } = extent;
			const moving = this.#image.movingAt(cluster, clusters);
			if (moving !== undefined) return await moving;
			if (extent.offset === 0 && this.#image.isEmpty(extent, cluster)) return clusters;
			return await this.#image.move(cluster, clusters, async () => {
				await this.#image.makeTable(cluster);
				const kept = keep && extent.copied && extent.offset !== 0;
				await this.#image.mapping.setEmpty(cluster, clusters, { zero, offset: kept ? extent.offset : 0 });
				if (!kept) this.#image.freeLater(extent, clusters);
				return clusters;
			});
		});
	}
}
