/*
 * The header of a qcow2 image (QEMU, docs/interop/qcow2.txt), checked. All fields are big-endian.
 *
 *     file     | header, extensions, name of the backing file | then clusters in any order:
 *              | refcount table | refcount blocks | L1 table | L2 tables | data clusters | snapshots
 *
 *     guest offset -> L1[i] -> an L2 table -> L2[j] -> a data cluster of the file
 *
 * An image that needs something that we do not know is refused: an incompatible feature, encryption.
 */
import { ImageError } from "../../base/errors.ts";
import { struct } from "../../base/struct.ts";

/** "QFI\xfb" */
export const QCOW2_MAGIC = 0x5146_49fb;
/** What is read of a file to find its header: the header and its extensions are in the first cluster. */
export const MAX_HEADER_BYTES = 2 * 1024 * 1024;
const MIN_CLUSTER_BITS = 9;
const MAX_CLUSTER_BITS = 21;
/** Limits of QEMU: 32 MiB of an L1 table, 8 MiB of a refcount table, 1023 bytes of a name. */
const MAX_L1_ENTRIES = (32 * 1024 * 1024) / 8;
const MAX_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024;
const MAX_NAME_BYTES = 1023;

/** The header of version 3. Version 2 ends before `incompatible_features`. */
export const qcow2_header = struct("QCowHeader", {
	magic: "u32",
	version: "u32",
	backing_file_offset: "u64",
	backing_file_size: "u32",
	cluster_bits: "u32",
	size: "u64",
	crypt_method: "u32",
	l1_size: "u32",
	l1_table_offset: "u64",
	refcount_table_offset: "u64",
	refcount_table_clusters: "u32",
	nb_snapshots: "u32",
	snapshots_offset: "u64",
	incompatible_features: "u64",
	compatible_features: "u64",
	autoclear_features: "u64",
	refcount_order: "u32",
	header_length: "u32",
	compression_type: "u8",
});
const V2_HEADER_BYTES = 72;
const V3_HEADER_BYTES = 104;

/** Bits of incompatible_features. */
const DIRTY = 1;
export const CORRUPT = 2;
const EXTERNAL_DATA_FILE = 4;
const COMPRESSION_TYPE = 8;
const EXTENDED_L2 = 16;

const EXTENSION_END = 0;
const EXTENSION_BACKING_FORMAT = 0xe279_2aca;

/** What an image says of itself. */
export interface Qcow2Header {
	readonly version: number;
	readonly clusterBits: number;
	readonly clusterBytes: number;
	/** Of the disk that the guest sees. */
	readonly sizeBytes: number;
	readonly l1: { readonly offset: number; readonly entries: number };
	readonly refcountTable: { readonly offset: number; readonly clusters: number };
	/** Bits of a refcount, 1 to 64. */
	readonly refcountBits: number;
	readonly compression: "zlib" | "zstd";
	/** Name and format as they were given when the image was made. */
	readonly backing: { readonly name: string; readonly format: string | undefined } | undefined;
	readonly autoclear: boolean;
}

/**
 * Reads a header.
 *
 * @param bytes the beginning of the file
 * @param writable whether the image is to be written to
 * @throws ImageError ERR_QCOW2_FORMAT, ERR_QCOW2_FEATURE, ERR_QCOW2_DIRTY
 */
export function readHeader(path: string, bytes: Uint8Array, writable: boolean): Qcow2Header {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
	const malformed = (what: string) => new ImageError("ERR_QCOW2_FORMAT", `Cannot use qcow2 image ${path}: ${what}`);
	if (bytes.length < V2_HEADER_BYTES || view.getUint32(0) !== QCOW2_MAGIC) {
		throw new ImageError("ERR_QCOW2_FORMAT", `Cannot use qcow2 image ${path}: it does not begin as one`, {
			hint: "Give format=raw for a raw disk",
		});
	}
	const u32 = (
		field: "version" | "backing_file_size" | "cluster_bits" | "crypt_method" | "l1_size" | "refcount_table_clusters",
	) => view.getUint32(qcow2_header[field]);
	const u64 = (at: number) => view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
	const version = u32("version");
	if (version !== 2 && version !== 3) throw malformed(`its version is ${version}, and only 2 and 3 are known`);
	if (bytes.length < (version === 3 ? V3_HEADER_BYTES : V2_HEADER_BYTES)) throw malformed("its header is cut off");
	const features = version === 3 ? checkFeatures(path, view, writable) : 0;
	if (u32("crypt_method") !== 0) throw unsupported(path, "it is encrypted");
	const clusterBits = u32("cluster_bits");
	if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
		throw malformed(`its clusters have 2^${clusterBits} bytes, and 512 bytes to 2 MiB are possible`);
	}
	const clusterBytes = 2 ** clusterBits;
	const sizeBytes = u64(qcow2_header.size);
	const l1 = { offset: u64(qcow2_header.l1_table_offset), entries: u32("l1_size") };
	const refcountTable = {
		offset: u64(qcow2_header.refcount_table_offset),
		clusters: u32("refcount_table_clusters"),
	};
	const order = version === 3 ? view.getUint32(qcow2_header.refcount_order) : 4;
	if (order > 6) throw malformed(`its refcounts have 2^${order} bits, and 64 are possible`);
	if (!Number.isSafeInteger(sizeBytes)) throw malformed("its disk is too large");
	if (l1.entries > MAX_L1_ENTRIES || l1.entries * (clusterBytes / 8) * clusterBytes < sizeBytes) {
		throw malformed(`an L1 table of ${l1.entries} entries does not fit a disk of ${sizeBytes} bytes`);
	}
	if (refcountTable.clusters < 1 || refcountTable.clusters * clusterBytes > MAX_REFCOUNT_TABLE_BYTES) {
		throw malformed(`its refcount table has ${refcountTable.clusters} clusters`);
	}
	for (const [what, { offset }] of [
		["L1 table", l1],
		["refcount table", refcountTable],
	] as const) {
		if (offset % clusterBytes !== 0 || offset === 0 || !Number.isSafeInteger(offset))
			throw malformed(`its ${what} is at ${offset}, which is no cluster`);
	}
	return {
		...{ version, clusterBits, clusterBytes, sizeBytes, l1, refcountTable, refcountBits: 2 ** order },
		compression: compressionOf(path, view, features),
		backing: readBacking(path, bytes, clusterBytes),
		autoclear: version === 3 && u64(qcow2_header.autoclear_features) !== 0,
	};
}

/** @returns the lower half of incompatible_features */
function checkFeatures(path: string, view: DataView, writable: boolean): number {
	const features = view.getUint32(qcow2_header.incompatible_features + 4);
	const higher = view.getUint32(qcow2_header.incompatible_features);
	if ((features & EXTERNAL_DATA_FILE) !== 0) throw unsupported(path, "its data is in another file");
	if ((features & EXTENDED_L2) !== 0) throw unsupported(path, "it has subclusters (extended_l2)");
	const unknown = features & ~(DIRTY | CORRUPT | COMPRESSION_TYPE);
	if (unknown !== 0 || higher !== 0) throw unsupported(path, `features 0x${unknown.toString(16)} are not known`);
	if (!writable || (features & (DIRTY | CORRUPT)) === 0) return features;
	const how =
		(features & CORRUPT) !== 0 ? "it is marked as corrupt" : "it was not closed, and its refcounts are not written";
	throw new ImageError("ERR_QCOW2_DIRTY", `Cannot write to qcow2 image ${path}: ${how}`, {
		hint: `Run qemu-img check -r all ${path}, or give the disk with ,ro`,
	});
}

function compressionOf(path: string, view: DataView, features: number): "zlib" | "zstd" {
	if ((features & COMPRESSION_TYPE) === 0) return "zlib";
	const hasType = view.getUint32(qcow2_header.header_length) > qcow2_header.compression_type;
	const type = hasType && view.byteLength > V3_HEADER_BYTES ? view.getUint8(qcow2_header.compression_type) : 0;
	if (type > 1) throw unsupported(path, `compression type ${type} is not known`);
	return type === 1 ? "zstd" : "zlib";
}

function unsupported(path: string, what: string): ImageError {
	return new ImageError("ERR_QCOW2_FEATURE", `Cannot use qcow2 image ${path}: ${what}`, {
		hint: `Convert it: qemu-img convert -O qcow2 ${path} NEW.qcow2`,
	});
}

/** The name of the backing file, and its format from the header's extensions. */
function readBacking(path: string, bytes: Uint8Array, clusterBytes: number): Qcow2Header["backing"] {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
	const at =
		view.getUint32(qcow2_header.backing_file_offset) * 2 ** 32 + view.getUint32(qcow2_header.backing_file_offset + 4);
	if (at === 0) return undefined;
	const length = view.getUint32(qcow2_header.backing_file_size);
	const end = Math.min(clusterBytes, bytes.length);
	if (length < 1 || length > MAX_NAME_BYTES || at + length > end) {
		throw new ImageError(
			"ERR_QCOW2_FORMAT",
			`Cannot use qcow2 image ${path}: the name of its backing file is not in its header`,
		);
	}
	const text = (from: number, count: number) => Buffer.from(bytes.subarray(from, from + count)).toString();
	let format: string | undefined;
	let next = view.getUint32(qcow2_header.version) === 2 ? V2_HEADER_BYTES : view.getUint32(qcow2_header.header_length);
	while (next + 8 <= at) {
		const type = view.getUint32(next);
		const size = view.getUint32(next + 4);
		if (type === EXTENSION_END || next + 8 + size > at) break;
		if (type === EXTENSION_BACKING_FORMAT) format = text(next + 8, size);
		next += 8 + Math.ceil(size / 8) * 8;
	}
	return { name: text(at, length), format };
}
