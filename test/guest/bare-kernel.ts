/* A bare-metal guest (guests/bare) as a kernel that Machine boots by PVH. Its entry is in start.S. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../src/host/native.ts";
import { elfImage } from "../boot/images.ts";

const BASE = 0x100000;
/** More than any of them takes with its zeroed data. */
const MEMORY_BYTES = 1 << 20;
/** In the header, behind eight numbers. */
const ENTRY_AT = 8 + 9 * 8;

/** Writes the kernel to `directory`. @returns its path */
export function bareKernel(name: string, directory: string): string {
	const code = readFileSync(join(packageRoot(), `guests/out/bare/${name}.bin`));
	const path = join(directory, `${name}.elf`);
	const pvhEntry = Number(code.readBigUInt64LE(ENTRY_AT));
	writeFileSync(path, elfImage({ paddr: BASE, code, pvhEntry, memoryBytes: MEMORY_BYTES }));
	return path;
}
