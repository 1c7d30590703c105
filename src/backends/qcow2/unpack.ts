/*
 * Compressed clusters: raw deflate (RFC 1951), or a zstd frame where the header says so. Each cluster is packed by itself.
 */
import { promisify } from "node:util";
import { inflateRaw } from "node:zlib";
import { zstdDecompress } from "../../host/libzstd.ts";
import { Corrupt } from "./refcounts.ts";

const inflate = promisify<Uint8Array, { maxOutputLength: number; finishFlush: number }, Buffer>(inflateRaw);
/** Z_SYNC_FLUSH: what follows the data does no harm. */
const SYNC_FLUSH = 2;

/** Unpacks a cluster. @throws Corrupt */
export async function unpackCluster(
	packed: Uint8Array,
	compression: "zlib" | "zstd",
	clusterBytes: number,
): Promise<Uint8Array> {
	if (compression === "zstd") {
		const into = new Uint8Array(clusterBytes);
		if (zstdDecompress(packed, into) !== clusterBytes) throw new Corrupt("a compressed cluster is damaged");
		return into;
	}
	const options = { maxOutputLength: clusterBytes, finishFlush: SYNC_FLUSH };
	const bytes = await inflate(packed, options).catch((cause: unknown) => {
		throw new Corrupt("a compressed cluster is damaged", { cause });
	});
	if (bytes.length !== clusterBytes) throw new Corrupt("a compressed cluster is cut off");
	return bytes;
}
