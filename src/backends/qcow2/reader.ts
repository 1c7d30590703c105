/*
 * Reads of the guest: from the image's file, its backing disk, or a compressed cluster.
 */
import { Segments } from "../../base/segments.ts";
import type { Image } from "./image.ts";
import type { Extent } from "./mapping.ts";
import { Pieces } from "./pieces.ts";
import { unpackCluster } from "./unpack.ts";

export class Reader {
	readonly #image: Image;
	/** The cluster that was unpacked last. */
	#unpacked: { offset: number; bytes: Uint8Array } | undefined;

	constructor(image: Image) {
		this.#image = image;
	}

	/** @throws RequestFailed; Corrupt */
	async read(offset: number, into: Segments): Promise<void> {
		await Pieces.of(into.totalBytes, async (done, pieces) => {
			const [cluster, skip] = this.#image.place(offset + done);
			const wanted = into.totalBytes - done;
			return await this.#image.mapping.find(cluster, this.#image.clustersOf(skip + wanted), async (extent) => {
				const bytes = Math.min(extent.clusters * this.#image.clusterBytes - skip, wanted);
				const part = into.slice(done, bytes, new Segments());
				await pieces.add(this.readExtent(extent, offset + done, part));
				return bytes;
			});
		});
	}

	/** @param offset in the guest's disk */
	async readExtent(extent: Extent, offset: number, into: Segments): Promise<void> {
		const skip = offset % this.#image.clusterBytes;
		const { backing } = this.#image;
		if (extent.kind === "data") await this.#image.file.read(extent.offset + skip, into);
		else if (extent.kind === "compressed") into.copyFrom((await this.#unpack(extent)).subarray(skip));
		else if (extent.kind === "backing" && backing !== undefined) await backing.read(offset, into);
		else into.zero();
	}

	async #unpack({ offset, bytes }: Extent): Promise<Uint8Array> {
		if (this.#unpacked?.offset === offset) return this.#unpacked.bytes;
		const block = this.#image.blockBytes;
		const start = offset - (offset % block);
		const end = Math.ceil((offset + bytes) / block) * block;
		const unpacked = await this.#image.packed.with(async (buffer) => {
			await this.#image.file.read(start, buffer.list(end - start));
			const packed = buffer.bytes.slice(offset - start, offset - start + bytes);
			return await unpackCluster(packed, this.#image.header.compression, this.#image.clusterBytes);
		});
		this.#unpacked = { offset, bytes: unpacked };
		return unpacked;
	}
}
