/*
 * Writes of the guest. A cluster that this image alone uses is written in place. Any other one gets a new place: first the
 * data, then the L2 entry.
 */
import { Segments } from "../../base/segments.ts";
import type { Image } from "./image.ts";
import { RequestFailed } from "./image-file.ts";
import type { Extent } from "./mapping.ts";
import { Pieces } from "./pieces.ts";
import type { Reader } from "./reader.ts";

export class Writer {
	readonly #image: Image;
	readonly #reader: Reader;

	constructor(image: Image, reader: Reader) {
		this.#image = image;
		this.#reader = reader;
	}

	/** @throws RequestFailed; Corrupt */
	async write(offset: number, from: Segments): Promise<void> {
		await Pieces.of(from.totalBytes, async (done, pieces) => {
			if (this.#image.isCorrupt) throw new RequestFailed("corrupt");
			const at = offset + done;
			const [cluster, skip] = this.#image.place(at);
			const wanted = from.totalBytes - done;
			return await this.#image.mapping.find(cluster, this.#image.clustersOf(skip + wanted), async (extent) => {
				const moving = this.#image.movingAt(cluster, extent.clusters);
				if (moving !== undefined) return await moving;
				if (extent.kind !== "data" || !extent.copied) {
					return await this.#writeNew(extent, at, from.slice(done, wanted, new Segments()));
				}
				const bytes = Math.min(extent.clusters * this.#image.clusterBytes - skip, wanted);
				await pieces.add(this.#writeInPlace(extent, skip, from.slice(done, bytes, new Segments())));
				return bytes;
			});
		});
	}

	async #writeInPlace({ offset, clusters }: Extent, skip: number, from: Segments): Promise<void> {
		for (let i = 0; i < clusters; i++) this.#image.checkPlace(offset + i * this.#image.clusterBytes);
		const write = this.#image.file.write(offset + skip, from);
		this.#image.writes.add(write);
		try {
			await write;
		} finally {
			this.#image.writes.delete(write);
		}
	}

	/**
	 * Writes to clusters that get a new place: whole ones in a row, or a part of one with the rest of what was there.
	 *
	 * @returns the bytes of `from` that are done
	 */
	async #writeNew(extent: Extent, offset: number, from: Segments): Promise<number> {
		const [cluster, skip] = this.#image.place(offset);
		const isWhole = skip === 0 && from.totalBytes >= this.#image.clusterBytes;
		const wanted = isWhole ? Math.min(extent.clusters, Math.floor(from.totalBytes / this.#image.clusterBytes)) : 1;
		return await this.#image.move(cluster, wanted, async () => {
			await this.#image.makeTable(cluster);
			/* A cluster of zeroes may have a place already. */
			const isInFile = extent.offset < this.#image.file.endBytes;
			const reused = extent.kind === "zero" && extent.copied && extent.offset !== 0 && isInFile;
			if (reused) this.#image.checkPlace(extent.offset);
			const place = reused
				? { offset: extent.offset, clusters: 1, fresh: false }
				: await this.#image.refcounts.allocate(wanted);
			const room = place.clusters * this.#image.clusterBytes;
			const bytes = Math.min(room - skip, from.totalBytes);
			const part = from.slice(0, bytes, new Segments());
			try {
				if (bytes === room || (place.fresh && this.#image.isEmpty(extent, cluster))) {
					await this.#image.file.write(place.offset + skip, part);
				} else await this.#writeAround({ ...extent, clusters: 1 }, { cluster, skip, place: place.offset }, part);
				await this.#image.mapping.setData(cluster, place.clusters, place.offset);
			} catch (error) {
				if (!reused) await this.#image.refcounts.release(place.offset, room).catch(() => undefined);
				throw error;
			}
			if (!reused) this.#image.freeLater(extent, place.clusters);
			return bytes;
		});
	}

	/** Writes a whole cluster: what was there, and `part` over it. */
	async #writeAround(
		old: Extent,
		{ cluster, skip, place }: { cluster: number; skip: number; place: number },
		part: Segments,
	): Promise<void> {
		await this.#image.buffers.with(async (buffer) => {
			const whole = this.#image.clusterBytes;
			if (this.#image.isEmpty(old, cluster)) buffer.bytes.fill(0, 0, whole);
			else await this.#reader.readExtent(old, cluster * whole, buffer.list(whole));
			part.copyTo(buffer.bytes.subarray(skip, whole));
			await this.#image.file.write(place, buffer.list(whole));
		});
	}
}
