/*
 * Chains of the block device as Linux builds them: header, data, status byte. `status` reads the answer.
 */
import { virtio_blk_discard_write_zeroes, virtio_blk_outhdr } from "../../src/virtio/block-request.ts";
import { type Part, readable, type Used, writable } from "./fake-queue.ts";

export function header(type: number, sector = 0): Uint8Array {
	const bytes = Buffer.alloc(virtio_blk_outhdr.sizeof);
	bytes.writeUInt32LE(type, virtio_blk_outhdr.type);
	bytes.writeBigUInt64LE(BigInt(sector), virtio_blk_outhdr.sector);
	return bytes;
}

/** `sizes` are the lengths of the data buffers. */
export function readChain(sector: number, ...sizes: number[]): Part[] {
	return [readable(header(0, sector)), ...sizes.map((size) => writable(size)), writable(1)];
}

export function writeChain(sector: number, ...data: Uint8Array[]): Part[] {
	return [readable(header(1, sector)), ...data.map((bytes) => readable(bytes)), writable(1)];
}

export interface Range {
	sector: number;
	sectors: number;
	flags?: number;
}

/** A discard (11) or write-zeroes (13) request. */
export function rangeChain(type: number, ...ranges: Range[]): Part[] {
	const { sizeof, sector, num_sectors, flags } = virtio_blk_discard_write_zeroes;
	const bytes = Buffer.alloc(sizeof * ranges.length);
	ranges.forEach((range, i) => {
		bytes.writeBigUInt64LE(BigInt(range.sector), i * sizeof + sector);
		bytes.writeUInt32LE(range.sectors, i * sizeof + num_sectors);
		bytes.writeUInt32LE(range.flags ?? 0, i * sizeof + flags);
	});
	return [readable(header(type)), readable(bytes), writable(1)];
}

/** The status byte: the last writable one. */
export function status({ data }: Used): number {
	return data[data.length - 1]!;
}

/** `sectors` sectors of bytes that differ from sector to sector and from `seed` to `seed`. */
export function pattern(seed: number, sectors = 1): Uint8Array {
	return Uint8Array.from({ length: 512 * sectors }, (_, i) => (seed * 31 + i * 7 + (i >> 9) * 13) & 0xff);
}
