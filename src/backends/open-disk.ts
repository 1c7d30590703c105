/*
 * Opens a disk by its format. The format comes from the user, or from the end of the file's name. It never comes from the
 * content: a guest that writes the first bytes of a qcow2 image to its raw disk could otherwise make the next start take
 * the disk for an image, whose backing file is any file of the host.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { ImageError } from "../base/errors.ts";
import type { BlockBackend } from "./contract.ts";
import { FileDisk, type FileDiskOptions } from "./file-disk.ts";
import { QCOW2_MAGIC } from "./qcow2/header.ts";
import { openQcow2 } from "./qcow2/open.ts";

export const DISK_FORMATS = ["raw", "qcow2"] as const;
/** What is in a disk's file. */
export type DiskFormat = (typeof DISK_FORMATS)[number];

/** The format of a disk that nobody has named. */
export function formatOf(path: string): DiskFormat {
	return path.endsWith(".qcow2") ? "qcow2" : "raw";
}

/**
 * Opens a disk, and locks it.
 *
 * @param format by the name when undefined; a raw disk that begins as a qcow2 image is refused then
 * @throws ImageError ERR_DISK_FORMAT, and as FileDisk.open and openQcow2
 */
export async function openDisk(
	path: string,
	format: DiskFormat | undefined,
	options: FileDiskOptions = {},
): Promise<BlockBackend> {
	if ((format ?? formatOf(path)) === "qcow2") return await openQcow2(path, options);
	const disk = FileDisk.open(path, options);
	if (format === "raw" || !beginsAsQcow2(options.fd === undefined ? path : `/proc/self/fd/${options.fd}`)) return disk;
	await disk.close();
	throw new ImageError(
		"ERR_DISK_FORMAT",
		`Cannot use disk ${path}: it begins as a qcow2 image, and is not named .qcow2`,
		{
			hint: "Add format=qcow2, or format=raw if it is a raw disk all the same",
		},
	);
}

function beginsAsQcow2(path: string): boolean {
	const fd = openSync(path, "r");
	try {
		const start = Buffer.alloc(4);
		return readSync(fd, start, 0, 4, 0) === 4 && start.readUInt32BE() === QCOW2_MAGIC;
	} finally {
		closeSync(fd);
	}
}
