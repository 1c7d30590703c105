/*
 * 64-bit fields as numbers. A number is exact below 2^53, as every valid address and length is. A larger one is inexact,
 * but so large that every check against RAM or a file refuses it.
 */

/** The value of a field's two halves. */
export function u64(low: number, high: number): number {
	return low + high * 0x1_0000_0000;
}

/** Reads a little-endian u64 at byte `at`. */
export function getU64(view: DataView, at: number): number {
	return u64(view.getUint32(at, true), view.getUint32(at + 4, true));
}

/** Writes a little-endian u64 at byte `at`; `value` is below 2^53. */
export function setU64(view: DataView, at: number, value: number): void {
	view.setUint32(at, lowHalf(value), true);
	view.setUint32(at + 4, highHalf(value), true);
}

/** The lower 32 bits of a value below 2^53. */
export function lowHalf(value: number): number {
	return value % 0x1_0000_0000;
}

/** The upper 32 bits of a value below 2^53. */
export function highHalf(value: number): number {
	return Math.floor(value / 0x1_0000_0000);
}
