/*
 * Golden snapshots: of a machine in the middle of printing the alphabet, one per format, as that format was written. Each is a
 * directory of test/snapshot/golden with `snapshot.json`, `state`, and instead of `memory` (64 MiB, nearly all of it zeroes)
 * `pages.gz`: each page that is not zero after its number of 64 bits.
 *
 * make-golden.ts makes one of the format that src writes. Make it before the format changes.
 */
import { closeSync, cpSync, mkdirSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { packageRoot } from "../../src/host/native.ts";

const PAGE = 4096;
const ENTRY = 8 + PAGE;
export const GOLDEN = join(packageRoot(), "test/snapshot/golden");

/** Makes the snapshot of a golden one. */
export function unpackGolden(name: string, to: string): void {
	const from = join(GOLDEN, name);
	mkdirSync(to);
	for (const file of ["snapshot.json", "state"]) cpSync(join(from, file), join(to, file));
	const { bytes } = JSON.parse(readFileSync(join(from, "snapshot.json"), "utf8")).memory as { bytes: number };
	const memory = join(to, "memory");
	writeFileSync(memory, "");
	truncateSync(memory, bytes);
	const packed = gunzipSync(readFileSync(join(from, "pages.gz")));
	const fd = openSync(memory, "r+");
	for (let at = 0; at < packed.length; at += ENTRY)
		writeSync(fd, packed, at + 8, PAGE, Number(packed.readBigUInt64LE(at)) * PAGE);
	closeSync(fd);
}

/** The reverse. */
export function packGolden(from: string, name: string): void {
	const to = join(GOLDEN, name);
	mkdirSync(to);
	for (const file of ["snapshot.json", "state"]) cpSync(join(from, file), join(to, file));
	const memory = readFileSync(join(from, "memory"));
	const zero = Buffer.alloc(PAGE);
	const parts: Buffer[] = [];
	for (let at = 0; at < memory.length; at += PAGE) {
		const page = memory.subarray(at, at + PAGE);
		if (page.equals(zero)) continue;
		const number = Buffer.alloc(8);
		number.writeBigUInt64LE(BigInt(at / PAGE));
		parts.push(number, page);
	}
	writeFileSync(join(to, "pages.gz"), gzipSync(Buffer.concat(parts), { level: 9 }));
}
