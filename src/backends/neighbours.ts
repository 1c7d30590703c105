/*
 * The reads and writes of one batch that continue each other on the disk. They go to the host as one request with the
 * buffers of all: the host's work for a request of 4 KiB is mostly the same whatever its length.
 */
import { Segments } from "../base/segments.ts";

/** A longer request gains nothing more. */
const MAX_BYTES = 1024 * 1024;
/** The most segments of one preadv or pwritev (IOV_MAX). */
const MAX_SEGMENTS = 1024;

/** A read or write that waits for the end of its batch. */
export interface Waiting {
	readonly token: number;
	readonly operation: "read" | "write";
	readonly offsetBytes: number;
	readonly segments: Segments;
}

/** One request for several. The first one's token names it. */
export interface Run {
	readonly requests: readonly Waiting[];
	readonly segments: Segments;
}

/** Joins the requests of a batch, in their order. */
export function joinNeighbours(batch: readonly Waiting[]): Run[] {
	const runs: Run[] = [];
	for (let i = 0; i < batch.length; ) {
		const first = batch[i]!;
		let end = i + 1;
		let { totalBytes: bytes, count } = first.segments;
		for (; end < batch.length; end++) {
			const { operation, offsetBytes, segments } = batch[end]!;
			bytes += segments.totalBytes;
			count += segments.count;
			if (operation !== first.operation || bytes > MAX_BYTES || count > MAX_SEGMENTS) break;
			if (offsetBytes !== first.offsetBytes + bytes - segments.totalBytes) break;
		}
		runs.push(end === i + 1 ? { requests: [first], segments: first.segments } : joined(batch.slice(i, end)));
		i = end;
	}
	return runs;
}

function joined(requests: readonly Waiting[]): Run {
	const segments = new Segments();
	for (const request of requests) segments.append(request.segments);
	return { requests, segments };
}
