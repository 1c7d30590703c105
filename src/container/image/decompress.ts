/*
 * Unpacks compressed streams. Their first bytes tell the format, not a name or media type. The output is counted, so
 * that a small file cannot fill the disk, and memory is bounded. Node unpacks gzip. The tools xz and zstd run as
 * children and end with the stream.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { type Compression, compressionOf } from "../../base/compression.ts";
import { explain, ImageError, TsvmmError } from "../../base/errors.ts";
import { keepTail } from "../../host/command.ts";
import { findTool, toolMissing } from "../../host/tools.ts";
import type { ImageBudget } from "./budget.ts";
import { malformed } from "./failure.ts";

export type LayerCompression = "none" | Extract<Compression, "gzip" | "zstd" | "xz" | "bzip2">;

/** The most MiB of memory that a tool may take to unpack. zstd -22 needs 128, xz -9 needs 65. */
const TOOL_MEMORY_MIB = { xz: 256, zstd: 128 };
/** How xz and zstd report that they need more memory. */
const NEEDS_MEMORY = /memory usage limit|too much memory|window size larger/i;

/**
 * The compression of a stream that begins with `head` (6 bytes are enough). Other formats are "none": layers do not
 * have them, and a tar may begin with the three bytes of lzma.
 */
export function layerCompression(head: Uint8Array): LayerCompression {
	const found = compressionOf(head);
	return found === "gzip" || found === "zstd" || found === "xz" || found === "bzip2" ? found : "none";
}

/**
 * Unpacks `source`.
 *
 * @param file what to call the stream in messages
 * @throws ImageError ERR_IMAGE_MALFORMED when it is damaged or cut off, ERR_IMAGE_TOO_LARGE when it unpacks to more than
 *   the budget has, or needs more memory for that than its tool may take; HostError ERR_TOOL_MISSING
 */
export async function* decompress(
	source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
	compression: LayerCompression,
	file: string,
	budget: ImageBudget,
): AsyncGenerator<Uint8Array> {
	try {
		for await (const chunk of unpack(source, compression)) {
			budget.addWritten(file, chunk.length);
			yield chunk;
		}
	} catch (error) {
		if (error instanceof TsvmmError) throw error;
		const found = explain(error);
		if (!(error instanceof NeedsMemory)) {
			throw malformed(file, `damaged or truncated ${compression} data (${found})`, error);
		}
		throw new ImageError("ERR_IMAGE_TOO_LARGE", `Cannot read image: ${file}: ${found}`, {
			hint: `Pack it with a smaller dictionary or window (${compression} without --ultra or --long)`,
			cause: error,
		});
	}
}

class NeedsMemory extends Error {
	constructor(name: string, mebibytes: number) {
		super(`it needs more memory to unpack than ${name} may take, which is ${mebibytes} MiB`);
	}
}

function unpack(
	source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
	compression: LayerCompression,
): AsyncIterable<Uint8Array> | Iterable<Uint8Array> {
	switch (compression) {
		case "none":
			return source;
		case "gzip":
			return gunzip(source);
		case "zstd":
		case "xz":
			return unpackWith(compression, source);
		case "bzip2":
			throw new ImageError("ERR_IMAGE_FORMAT", "Cannot read image: it is compressed with bzip2", {
				hint: "Unpack it with bunzip2 first, or pack it with gzip, zstd or xz",
			});
	}
}

async function* gunzip(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
	const input = Readable.from(source, { objectMode: false });
	const output = createGunzip({ chunkSize: 256 * 1024 });
	input.once("error", (error) => output.destroy(error));
	input.pipe(output);
	try {
		yield* output;
	} finally {
		input.destroy();
		output.destroy();
	}
}

async function* unpackWith(
	name: "xz" | "zstd",
	source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
	const tool = findTool(name);
	if (tool === undefined) throw toolMissing(name);
	const memory = TOOL_MEMORY_MIB[name];
	const limit = name === "xz" ? `--memlimit-decompress=${memory}MiB` : `--memory=${memory}MiB`;
	const child = spawn(tool, ["--decompress", "--stdout", "--quiet", limit], {
		stdio: ["pipe", "pipe", "pipe"],
		/* Its stderr says what failed. */
		env: { ...process.env, LC_ALL: "C" },
	});
	const closed = once(child, "close") as Promise<[number | null]>;
	closed.catch(() => undefined);
	const stderr = keepTail(child.stderr, 400);
	/* The tool stops reading when the data is damaged. Its exit status says so. */
	child.stdin.on("error", () => undefined);
	const input = Readable.from(source, { objectMode: false });
	let failure: unknown;
	input.once("error", (error) => {
		failure = error;
		child.kill();
	});
	input.pipe(child.stdin);
	try {
		yield* child.stdout;
		const [status] = await closed;
		if (failure !== undefined) throw failure;
		if (status !== 0 && NEEDS_MEMORY.test(stderr())) throw new NeedsMemory(name, memory);
		if (status !== 0) throw new Error(stderr().trim() || `${name} exited with status ${status}`);
	} finally {
		input.destroy();
		child.kill();
	}
}
