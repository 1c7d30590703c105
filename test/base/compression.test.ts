import { expect, test } from "vitest";
import { compressionOf } from "../../src/base/compression.ts";

test.each([
	["gzip", [0x1f, 0x8b, 8]],
	["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]],
	["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
	["lz4", [0x04, 0x22, 0x4d, 0x18]],
	["lz4", [0x02, 0x21, 0x4c, 0x18]],
	["bzip2", [0x42, 0x5a, 0x68, 0x39]],
	["lzma", [0x5d, 0, 0, 0x80]],
	["lzop", [0x89, 0x4c, 0x5a, 0x4f]],
	[undefined, [0xfd, 0x37, 0x7a, 0x58, 0x5a]],
	[undefined, [0x7f, 0x45, 0x4c, 0x46]],
	[undefined, []],
])("compressionOf says %s of data that begins with %j", (name, head) => {
	expect(compressionOf(Uint8Array.from(head))).toBe(name);
	/* A part of a larger buffer is looked at where it begins. */
	expect(compressionOf(Uint8Array.from([1, ...head]).subarray(1))).toBe(name);
});
