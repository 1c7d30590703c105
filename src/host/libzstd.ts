/*
 * libzstd, which unpacks data in memory (ZSTD_decompress(3)). Node has that only in later versions.
 */
import { koffi } from "./koffi.ts";

interface Library {
	frameBytes(packed: Uint8Array, bytes: number): number;
	decompress(into: Uint8Array, room: number, packed: Uint8Array, bytes: number): number;
	isError(result: number): number;
}

let loaded: Library | undefined;

/** @throws Error when the host does not have it */
function library(): Library {
	if (loaded !== undefined) return loaded;
	const lib = koffi().load("libzstd.so.1");
	loaded = {
		frameBytes: lib.func("size_t ZSTD_findFrameCompressedSize(const void *packed, size_t bytes)"),
		decompress: lib.func("size_t ZSTD_decompress(void *into, size_t room, const void *packed, size_t bytes)"),
		isError: lib.func("uint32_t ZSTD_isError(size_t result)"),
	} as Library;
	return loaded;
}

/** Whether this host has libzstd. */
export function hasZstd(): boolean {
	try {
		library();
		return true;
	} catch {
		return false;
	}
}

/**
 * Unpacks the frame that `packed` begins with; what follows it is ignored.
 *
 * @returns the bytes that are in `into` then; undefined when the frame is damaged or has more
 */
export function zstdDecompress(packed: Uint8Array, into: Uint8Array): number | undefined {
	const { frameBytes, decompress, isError } = library();
	const bytes = frameBytes(packed, packed.length);
	if (isError(bytes) !== 0) return undefined;
	const unpacked = decompress(into, into.length, packed, bytes);
	return isError(unpacked) === 0 ? unpacked : undefined;
}
