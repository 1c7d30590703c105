/*
 * A set of pages of 4 KiB by their numbers: a bit each, least significant bit first. It is kept as these bytes.
 */

/** Bytes of a page. */
export const PAGE_BYTES = 4096;

/** The pages from number `start` to `end` - 1. */
export type PageRun = readonly [start: number, end: number];

/** A set of pages. */
export class PageSet {
	/** The bytes of the set: bit `n & 7` of byte `n >> 3` is page `n`. */
	readonly bits: Uint8Array;

	/** An empty set of some of the first `pages` pages. */
	constructor(pages: number) {
		this.bits = new Uint8Array(Math.ceil(pages / 8));
	}

	/** Whether a page is in it. */
	has(page: number): boolean {
		return (this.bits[page >> 3]! & (1 << (page & 7))) !== 0;
	}

	/** Adds pages `start` to `end` - 1. */
	add(start: number, end = start + 1): void {
		const [firstByte, lastByte] = [Math.ceil(start / 8), Math.floor(end / 8)];
		let page = start;
		for (; page < Math.min(firstByte * 8, end); page++) this.bits[page >> 3]! |= 1 << (page & 7);
		if (firstByte < lastByte) {
			this.bits.fill(0xff, firstByte, lastByte);
			page = lastByte * 8;
		}
		for (; page < end; page++) this.bits[page >> 3]! |= 1 << (page & 7);
	}

	/** Adds all pages of another set. */
	addAll(other: PageSet): void {
		for (const [at, byte] of other.bits.entries()) if (byte !== 0) this.bits[at]! |= byte;
	}

	/** Removes all pages that another set has not. */
	keep(other: PageSet): void {
		for (const at of this.bits.keys()) this.bits[at]! &= other.bits[at]!;
	}

	/** Its pages from `start` to `end` - 1 as runs, in order. */
	*runs(start = 0, end = this.bits.length * 8): Generator<PageRun> {
		let first = -1;
		for (let page = start; page < end; page++) {
			if (first < 0 && (page & 7) === 0 && this.bits[page >> 3] === 0) {
				page += 7;
				continue;
			}
			if (this.has(page) === first >= 0) continue;
			if (first >= 0) yield [first, page];
			first = first >= 0 ? -1 : page;
		}
		if (first >= 0) yield [first, end];
	}
}
