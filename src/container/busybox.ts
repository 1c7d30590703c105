/*
 * The busybox that the agent has as a tool (EXEC's tool=busybox), so that a container is served whatever its image has in
 * it: this host's, or Debian's when this host has none, or one that needs libraries.
 */
import { open } from "node:fs/promises";
import { join } from "node:path";
import { fetchPackage, unpackPackage } from "../debian/packages.ts";
import { cacheDirectory } from "../host/directories.ts";
import { findTool } from "../host/tools.ts";

const ELF64_HEADER_BYTES = 64;
const PHDR_BYTES = 56;
const PT_INTERP = 3;

/**
 * A static busybox of this host or of the cache.
 *
 * @throws HostError ERR_DOWNLOAD when neither has one and Debian's cannot be fetched
 */
export async function busyboxPath(): Promise<string> {
	const own = findTool("busybox");
	if (own !== undefined && (await isStatic(own))) return own;
	const directory = join(cacheDirectory(), "busybox-static");
	const cached = findTool(join(directory, "bin/busybox"));
	if (cached !== undefined) return cached;
	await unpackPackage(await fetchPackage("busybox-static"), directory);
	return join(directory, "bin/busybox");
}

/** True for a 64-bit ELF program that names no interpreter (ELF-64, "Program header table"). */
export async function isStatic(path: string): Promise<boolean> {
	const file = await open(path, "r");
	try {
		const header = Buffer.alloc(ELF64_HEADER_BYTES);
		await file.read(header, 0, header.length, 0);
		if (header.toString("latin1", 0, 6) !== "\x7fELF\x02\x01") return false;
		const [offset, count] = [Number(header.readBigUInt64LE(32)), header.readUInt16LE(56)];
		const table = Buffer.alloc(count * PHDR_BYTES);
		await file.read(table, 0, table.length, offset);
		return Array.from({ length: count }, (_, i) => table.readUInt32LE(i * PHDR_BYTES)).every(
			(type) => type !== PT_INTERP,
		);
	} finally {
		await file.close();
	}
}
