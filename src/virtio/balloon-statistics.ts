/*
 * The statistics of a balloon's driver (virtio 1.2 §5.5.6.3): pairs of a tag (16 bits) and a value (64 bits).
 */
import type { Segments } from "../base/segments.ts";
import { getU64 } from "../base/u64.ts";

/** What the guest's kernel says about its memory. A value that it does not give is missing. */
export interface BalloonStatistics {
	/** All of it, without what the kernel has reserved. */
	totalBytes?: number;
	/** Not used for anything. */
	freeBytes?: number;
	/** What processes could get without swapping. */
	availableBytes?: number;
	/** What is used for the page cache. */
	cacheBytes?: number;
	/** Read from swap. */
	swapInBytes?: number;
	/** Written to swap. */
	swapOutBytes?: number;
	/** Page faults with I/O. */
	majorFaults?: number;
	/** Page faults without. */
	minorFaults?: number;
}

/** By tag. */
const FIELDS: readonly (keyof BalloonStatistics)[] = [
	...(["swapInBytes", "swapOutBytes", "majorFaults", "minorFaults"] as const),
	...(["freeBytes", "totalBytes", "availableBytes", "cacheBytes"] as const),
];
const PAIR_BYTES = 10;
/** More than any driver sends. */
const MAX_PAIRS = 64;

/** Reads a buffer that the driver has filled. Unknown tags are left out. */
export function readStatistics(buffer: Segments): BalloonStatistics {
	const bytes = new Uint8Array(MAX_PAIRS * PAIR_BYTES);
	const length = buffer.copyTo(bytes);
	const view = new DataView(bytes.buffer);
	const statistics: BalloonStatistics = {};
	for (let at = 0; at + PAIR_BYTES <= length; at += PAIR_BYTES) {
		const field = FIELDS[view.getUint16(at, true)];
		if (field !== undefined) statistics[field] = getU64(view, at + 2);
	}
	return statistics;
}
