/*
 * Opens a qcow2 image with its chain of backing files. The top may be written, all below are read.
 */
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { explain, HostError, ImageError } from "../../base/errors.ts";
import { log } from "../../base/log.ts";
import { hasZstd } from "../../host/libzstd.ts";
import type { BlockBackend } from "../contract.ts";
import { FileDisk, type FileDiskOptions } from "../file-disk.ts";
import { MAX_HEADER_BYTES, type Qcow2Header, qcow2_header, readHeader } from "./header.ts";
import { ImageFile } from "./image-file.ts";
import { Qcow2Disk } from "./qcow2-disk.ts";

/** The longest chain of backing files. A longer one may be a circle. */
const MAX_DEPTH = 64;
const HEADER_BLOCK_BYTES = 4096;

/**
 * Opens a qcow2 image as a disk. It is locked as a raw disk is, and its backing files as read-only disks.
 *
 * @throws ImageError ERR_QCOW2_FORMAT, ERR_QCOW2_FEATURE, ERR_QCOW2_DIRTY, ERR_QCOW2_BACKING; HostError as FileDisk.open
 */
export async function openQcow2(path: string, options: FileDiskOptions = {}): Promise<BlockBackend> {
	return await openImage(path, options, 1);
}

/** The files below an image, the next one first, as far as they can be read. */
export function backingFiles(path: string): string[] {
	const files: string[] = [];
	let image: string | undefined = path;
	try {
		while (image !== undefined && files.length < MAX_DEPTH) {
			const { backing }: Qcow2Header = readTables(image, undefined, true).header;
			if (backing === undefined) break;
			const below: string = pathOf(image, backing.name);
			files.push(below);
			image = backing.format === "qcow2" ? below : undefined;
		}
	} catch {
		/* `openQcow2` reports what is wrong with it. */
	}
	return files;
}

/** A relative name begins at the directory of the image that has it. */
function pathOf(image: string, name: string): string {
	const file = name.startsWith("file:") ? name.slice("file:".length) : name;
	return isAbsolute(file) ? file : join(dirname(image), file);
}

async function openImage(path: string, options: FileDiskOptions, depth: number): Promise<Qcow2Disk> {
	const disk = FileDisk.open(path, { ...options, isContainer: true });
	const opened: BlockBackend[] = [disk];
	try {
		const readOnly = options.readOnly ?? false;
		const parts = readTables(path, options.fd, readOnly);
		const { header } = parts;
		checkBlocks(path, header, disk, options.direct);
		const backing = header.backing && (await openBacking(path, header.backing, options, depth));
		if (backing !== undefined) opened.push(backing);
		return new Qcow2Disk({
			...{ path, ...parts, file: new ImageFile(disk), enter: options.enter },
			backing: backing && new ImageFile(backing),
		});
	} catch (error) {
		for (const backend of opened) await backend.close();
		throw error;
	}
}

/** Without the page cache, clusters and the file are whole blocks; one that is written has grown to that. @throws ImageError ERR_QCOW2_FEATURE */
function checkBlocks(
	path: string,
	{ clusterBytes }: Qcow2Header,
	{ blockBytes, sizeBytes }: FileDisk,
	direct = false,
): void {
	if (!direct) return;
	for (const [what, bytes] of [
		["clusters are", clusterBytes],
		["file is", sizeBytes],
	] as const) {
		if (bytes % blockBytes === 0) continue;
		const message = `Cannot use qcow2 image ${path} without the page cache: its ${what} ${bytes} bytes, no multiple of ${blockBytes}`;
		throw new ImageError("ERR_QCOW2_FEATURE", message, { hint: "Leave direct=on out" });
	}
}

async function openBacking(
	path: string,
	{ name, format }: NonNullable<Qcow2Header["backing"]>,
	{ direct, forceThreads, enter }: FileDiskOptions,
	depth: number,
): Promise<BlockBackend> {
	const failure = (what: string, hint?: string) =>
		new ImageError("ERR_QCOW2_BACKING", `Cannot use qcow2 image ${path}: ${what}`, { hint });
	if (depth >= MAX_DEPTH) throw failure(`its chain of backing files is longer than ${MAX_DEPTH}`);
	if (/^(?!file:)[a-z][a-z0-9+.-]*:/.test(name)) throw failure(`its backing file ${JSON.stringify(name)} is no path`);
	const full = pathOf(path, name);
	const options: FileDiskOptions = {
		readOnly: true,
		...(direct === undefined ? {} : { direct }),
		...(forceThreads === undefined ? {} : { forceThreads }),
		...(enter === undefined ? {} : { enter }),
	};
	try {
		if (format === "qcow2") return await openImage(full, options, depth + 1);
		if (format === "raw") return FileDisk.open(full, options);
	} catch (cause) {
		if (!(cause instanceof HostError)) throw cause;
		const { code, message, hint } = cause;
		const why = `its backing file: ${message.replace(/^C/, "c")}`;
		throw new HostError(code, `Cannot use qcow2 image ${path} because of ${why}`, { cause, hint });
	}
	if (format !== undefined) throw failure(`its backing file has format ${JSON.stringify(format)}`);
	throw failure(
		"it does not say which format its backing file has",
		`Run qemu-img rebase -u -b ${name} -F FORMAT ${path}, with raw or qcow2 as FORMAT`,
	);
}

/** Reads the header and the tables that are kept in memory, through the page cache. */
export function readTables(path: string, opened: number | undefined, readOnly: boolean) {
	const fd = openAgain(path, opened, readOnly);
	try {
		/* A block device says 0. */
		const size = fstatSync(fd).size || Number.MAX_SAFE_INTEGER;
		const read = (offset: number, bytes: number): Buffer => {
			const buffer = Buffer.alloc(Math.max(0, Math.min(bytes, size - offset)));
			let done = 0;
			for (let got = 1; done < buffer.length && got > 0; done += got)
				got = readSync(fd, buffer, done, buffer.length - done, offset + done);
			return buffer.subarray(0, done);
		};
		const start = read(0, MAX_HEADER_BYTES);
		const header = readHeader(path, start, !readOnly);
		const table = (what: string, offset: number, bytes: number) => {
			const found = read(offset, bytes);
			if (found.length === bytes) return found;
			throw new ImageError("ERR_QCOW2_FORMAT", `Cannot use qcow2 image ${path}: its ${what} is behind its end`);
		};
		const { l1, refcountTable, clusterBytes } = header;
		const parts = {
			header,
			headerBytes: Buffer.concat([start.subarray(0, HEADER_BLOCK_BYTES), Buffer.alloc(HEADER_BLOCK_BYTES)]).subarray(
				0,
				Math.min(HEADER_BLOCK_BYTES, clusterBytes),
			),
			l1: table("L1 table", l1.offset, l1.entries * 8),
			refcountTable: table("refcount table", refcountTable.offset, refcountTable.clusters * clusterBytes),
		};
		if (header.compression === "zstd" && !hasZstd()) {
			throw new HostError("ERR_QCOW2_ZSTD", `Cannot use qcow2 image ${path}: this host has no libzstd`, {
				hint: "Install it: apt-get install libzstd1",
			});
		}
		if (!readOnly && header.autoclear) {
			/* What we do not keep up to date, such as bitmaps, is not valid any more. */
			writeSync(fd, Buffer.alloc(8), 0, 8, qcow2_header.autoclear_features);
			parts.headerBytes.fill(0, qcow2_header.autoclear_features, qcow2_header.autoclear_features + 8);
			log("warn", `disk ${path}: its bitmaps are not kept up to date, and are not valid any more`);
		}
		return parts;
	} catch (cause) {
		if (cause instanceof ImageError || cause instanceof HostError) throw cause;
		throw new HostError("ERR_DISK_OPEN", `Cannot read disk ${path}: ${explain(cause)}`, { cause });
	} finally {
		closeSync(fd);
	}
}

function openAgain(path: string, opened: number | undefined, readOnly: boolean): number {
	return openSync(opened === undefined ? path : `/proc/self/fd/${opened}`, readOnly ? "r" : "r+");
}
