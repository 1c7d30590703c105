/*
 * Unpacks what a bzImage has in it, by Node or by a tool of the host: gzip, xz, zstd and lz4, as kernels are packed.
 */
import { readFile, writeFile } from "node:fs/promises";
import { constants } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { compressionOf } from "../base/compression.ts";
import { errnoName, explain, HostError, ImageError } from "../base/errors.ts";
import { run } from "./command.ts";

/** Decompresses by a tool of the host, which reads and writes files in `directory`. */
async function decompressWith(tool: string, suffix: string, data: Buffer, directory: string): Promise<Buffer> {
	const packed = join(directory, `payload${suffix}`);
	const plain = join(directory, "payload");
	await writeFile(packed, data);
	/* Only lz4 needs the name of its output. */
	await run(tool, ["-d", "-q", "-f", packed, ...(tool === "lz4" ? [plain] : [])]);
	return await readFile(plain);
}

/**
 * Unpacks the payload of a kernel.
 *
 * @param name of the kernel, for messages
 * @param directory for the tools' files, which stay there
 * @throws ImageError ERR_KERNEL_FORMAT, ERR_KERNEL_CORRUPT; HostError ERR_CACHE, ERR_TOOL_MISSING
 */
export async function decompress(payload: Buffer, name: string, directory: string): Promise<Uint8Array> {
	const format = compressionOf(payload);
	/* The uncompressed size follows in 4 bytes. gzip has it as part of its own format. */
	const data = payload.subarray(0, -4);
	try {
		if (format === "gzip") return await promisify(gunzip)(payload);
		if (format === "zstd") return await decompressWith("zstd", ".zst", data, directory);
		if (format === "xz") return await decompressWith("xz", ".xz", data, directory);
		if (format === "lz4") return await decompressWith("lz4", ".lz4", data, directory);
	} catch (error) {
		const code = errnoName(error);
		if (code === "ERR_TOOL_MISSING") throw error;
		if (code !== undefined && code in constants.errno) {
			const message = `Cannot decompress kernel ${name} in ${directory}: ${explain(error)}`;
			throw new HostError("ERR_CACHE", message, { cause: error });
		}
		throw new ImageError("ERR_KERNEL_CORRUPT", `Cannot decompress kernel ${name} (${format}): ${explain(error)}`, {
			cause: error,
		});
	}
	throw new ImageError(
		"ERR_KERNEL_FORMAT",
		`Cannot decompress kernel ${name}: its payload is ${format ?? `unknown (${payload.toString("hex", 0, 4)} ...)`}`,
		{ hint: "Pack it with gzip, xz, zstd or lz4" },
	);
}
