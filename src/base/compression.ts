/*
 * Recognizes compressed data by its first bytes: kernels, their payloads, layers of images.
 */

/** Name and first bytes of each format. "lz4" has two: frames, and the legacy format that the kernel's build writes. */
const MAGICS = [
	["gzip", "\x1f\x8b"],
	["xz", "\xfd7zXZ\0"],
	["zstd", "\x28\xb5\x2f\xfd"],
	["lz4", "\x04\x22\x4d\x18"],
	["lz4", "\x02\x21\x4c\x18"],
	["bzip2", "BZh"],
	["lzma", "\x5d\0\0"],
	["lzop", "\x89LZO"],
] as const;

export type Compression = (typeof MAGICS)[number][0];

/** The compression of data that begins with `head` (6 bytes are enough). Undefined for any other data. */
export function compressionOf(head: Uint8Array): Compression | undefined {
	const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, 6)).toString("latin1");
	return MAGICS.find(([, magic]) => text.startsWith(magic))?.[0];
}
