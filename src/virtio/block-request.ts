/*
 * The wire format of the block device (virtio 1.2 §5.2.3 to §5.2.6) and the state of one request: preallocated per
 * head index of a queue, filled from a chain by copies of its header and ranges, so that nothing is read twice from memory that
 * the guest can change.
 */
import { Segments } from "../base/segments.ts";
import { struct } from "../base/struct.ts";
import { getU64 } from "../base/u64.ts";
import type { Chain, Virtqueue } from "./queue.ts";

export const VIRTIO_BLK_F_SIZE_MAX = 1n << 1n;
export const VIRTIO_BLK_F_SEG_MAX = 1n << 2n;
export const VIRTIO_BLK_F_RO = 1n << 5n;
export const VIRTIO_BLK_F_BLK_SIZE = 1n << 6n;
export const VIRTIO_BLK_F_FLUSH = 1n << 9n;
export const VIRTIO_BLK_F_TOPOLOGY = 1n << 10n;
export const VIRTIO_BLK_F_MQ = 1n << 12n;
export const VIRTIO_BLK_F_DISCARD = 1n << 13n;
export const VIRTIO_BLK_F_WRITE_ZEROES = 1n << 14n;

export const VIRTIO_BLK_T_IN = 0;
export const VIRTIO_BLK_T_OUT = 1;
export const VIRTIO_BLK_T_FLUSH = 4;
export const VIRTIO_BLK_T_GET_ID = 8;
export const VIRTIO_BLK_T_DISCARD = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;

export const VIRTIO_BLK_S_OK = 0;
export const VIRTIO_BLK_S_IOERR = 1;
export const VIRTIO_BLK_S_UNSUPP = 2;

const VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 1;

export const SECTOR_BYTES = 512;
export const VIRTIO_BLK_ID_BYTES = 20;
const PAGE_BYTES = 4096;
/** Most data in one read or write. A chain could list one page of the guest until it has 4 GiB of work for the host. */
export const MAX_DATA_BYTES = 32 * 1024 * 1024;
/** Ranges in one discard or write-zeroes request. */
const MAX_RANGES = 16;
/** Longest range in sectors: 2 GiB to discard; 32 MiB to zero, which may have to be written. */
const MAX_DISCARD_SECTORS = 1 << 22;
const MAX_WRITE_ZEROES_SECTORS = 1 << 16;

/** virtio 1.2 §5.2.4, up to what the features that we offer define. */
export const virtio_blk_config = struct("virtio_blk_config", {
	capacity: "u64",
	size_max: "u32",
	seg_max: "u32",
	cylinders: "u16",
	heads: "u8",
	sectors: "u8",
	blk_size: "u32",
	physical_block_exp: "u8",
	alignment_offset: "u8",
	min_io_size: "u16",
	opt_io_size: "u32",
	wce: "u8",
	unused: "u8",
	num_queues: "u16",
	max_discard_sectors: "u32",
	max_discard_seg: "u32",
	discard_sector_alignment: "u32",
	max_write_zeroes_sectors: "u32",
	max_write_zeroes_seg: "u32",
	write_zeroes_may_unmap: "u8",
	unused1: "u8",
	unused2: "u16",
});

/** virtio 1.2 §5.2.6: what precedes the data of a request. */
export const virtio_blk_outhdr = struct("virtio_blk_outhdr", { type: "u32", ioprio: "u32", sector: "u64" });
/** virtio 1.2 §5.2.6: one range of a discard or write-zeroes request. */
export const virtio_blk_discard_write_zeroes = struct("virtio_blk_discard_write_zeroes", {
	sector: "u64",
	num_sectors: "u32",
	flags: "u32",
});
export const REQUEST_HEADER_BYTES = virtio_blk_outhdr.sizeof;
const RANGE_BYTES = virtio_blk_discard_write_zeroes.sizeof;

/** Writes the capacity into a configuration space. */
export function setCapacity(config: Uint8Array, sectors: number): void {
	new DataView(config.buffer).setBigUint64(virtio_blk_config.capacity, BigInt(sectors), true);
}

/** What a configuration space says of the device. */
export interface BlockShape {
	readonly queues: number;
	/** Bytes of a logical block: requests are multiples of it. */
	readonly blockBytes: number;
	/** Bytes that the disk writes best at once. */
	readonly physicalBlockBytes: number;
}

/**
 * The device's configuration space, without its capacity. A driver that keeps to `size_max` and to the `segMax` that is
 * given here never asks for more than MAX_DATA_BYTES.
 */
export function blockConfig(segMax: number, { queues, blockBytes, physicalBlockBytes }: BlockShape): Uint8Array {
	const config = new Uint8Array(virtio_blk_config.sizeof);
	const view = new DataView(config.buffer);
	view.setUint32(virtio_blk_config.size_max, sizeMax(segMax), true);
	view.setUint32(virtio_blk_config.seg_max, segMax, true);
	view.setUint32(virtio_blk_config.blk_size, blockBytes, true);
	view.setUint8(virtio_blk_config.physical_block_exp, Math.log2(physicalBlockBytes / blockBytes));
	view.setUint16(virtio_blk_config.min_io_size, physicalBlockBytes / blockBytes, true);
	view.setUint16(virtio_blk_config.num_queues, queues, true);
	view.setUint32(virtio_blk_config.max_discard_sectors, MAX_DISCARD_SECTORS, true);
	view.setUint32(virtio_blk_config.max_discard_seg, MAX_RANGES, true);
	view.setUint32(virtio_blk_config.discard_sector_alignment, physicalBlockBytes / SECTOR_BYTES, true);
	view.setUint32(virtio_blk_config.max_write_zeroes_sectors, MAX_WRITE_ZEROES_SECTORS, true);
	view.setUint32(virtio_blk_config.max_write_zeroes_seg, MAX_RANGES, true);
	view.setUint8(virtio_blk_config.write_zeroes_may_unmap, 1);
	return config;
}

/** Whole pages in a segment when there are `segMax`: 128 KiB with a queue of 256. */
function sizeMax(segMax: number): number {
	return Math.floor(MAX_DATA_BYTES / segMax / PAGE_BYTES) * PAGE_BYTES;
}

const SCRATCH = new Uint8Array(MAX_RANGES * RANGE_BYTES);
const SCRATCH_VIEW = new DataView(SCRATCH.buffer);
const HEADER = SCRATCH.subarray(0, REQUEST_HEADER_BYTES);

export class BlockRequest {
	/** Names it to the backend: the head index, counted on over the device's queues. */
	readonly token: number;
	/** The bytes to read or write. The backend uses them until it answers. */
	readonly data = new Segments();
	/** Undefined while the slot is free. */
	chain: Chain | undefined;
	queue: Virtqueue | undefined;
	/** The device was reset after this request had begun. */
	stale = false;
	type = 0;
	sector = 0;
	/** Bytes of data that the chain will hold when all goes well. */
	written = 0;
	flushAfter = false;
	rangeCount = 0;
	rangesDone = 0;
	readonly rangeStarts: number[] = [];
	readonly rangeSectors: number[] = [];
	readonly rangeFlags: number[] = [];

	constructor(token: number) {
		this.token = token;
	}

	begin(chain: Chain, queue: Virtqueue): void {
		this.chain = chain;
		this.queue = queue;
		this.written = 0;
		this.flushAfter = false;
		this.rangeCount = 0;
		this.rangesDone = 0;
	}

	end(): void {
		this.chain = undefined;
		this.queue = undefined;
		this.stale = false;
	}

	/** Takes type and sector from the chain; false when it is too short for them. */
	readHeader(): boolean {
		if (this.chain!.readable.copyTo(HEADER) < REQUEST_HEADER_BYTES) return false;
		this.type = SCRATCH_VIEW.getUint32(virtio_blk_outhdr.type, true);
		this.sector = getU64(SCRATCH_VIEW, virtio_blk_outhdr.sector);
		return true;
	}

	/**
	 * Takes a snapshot of a discard or write-zeroes request's ranges from behind the header, and checks all of them before
	 * any is done.
	 *
	 * @param inside whether a range is whole blocks of the disk
	 * @returns what is wrong with them, "unsupported" for flags that we do not know, or undefined
	 */
	readRanges(inside: (sector: number, bytes: number) => boolean): string | undefined {
		const { readable } = this.chain!;
		const bytes = readable.totalBytes - REQUEST_HEADER_BYTES;
		const count = bytes / RANGE_BYTES;
		if (!Number.isInteger(count) || count < 1 || count > MAX_RANGES) return `ranges of ${bytes} bytes`;
		readable.copyTo(SCRATCH.subarray(0, bytes), REQUEST_HEADER_BYTES);
		const discard = this.type === VIRTIO_BLK_T_DISCARD;
		const allowed = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
		const most = discard ? MAX_DISCARD_SECTORS : MAX_WRITE_ZEROES_SECTORS;
		for (let i = 0; i < count; i++) {
			const at = i * RANGE_BYTES;
			const sector = getU64(SCRATCH_VIEW, at + virtio_blk_discard_write_zeroes.sector);
			const sectors = SCRATCH_VIEW.getUint32(at + virtio_blk_discard_write_zeroes.num_sectors, true);
			const flags = SCRATCH_VIEW.getUint32(at + virtio_blk_discard_write_zeroes.flags, true);
			if ((flags & ~allowed) !== 0) return "unsupported";
			if (sectors > most || !inside(sector, sectors * SECTOR_BYTES))
				return "a range that is too long or beyond the end";
			this.rangeStarts[i] = sector;
			this.rangeSectors[i] = sectors;
			this.rangeFlags[i] = flags;
		}
		this.rangeCount = count;
		return undefined;
	}
}
