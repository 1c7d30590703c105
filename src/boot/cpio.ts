/*
 * Packs an initramfs: a cpio archive in the "newc" format (Linux, Documentation/driver-api/early-userspace/
 * buffer-format.rst). The same entries always give the same bytes: no times, no inode numbers of the host.
 *
 *     | header: "070701" + 13 fields of 8 hex digits | name NUL, padded to 4 | data, padded to 4 | ... "TRAILER!!!"
 */

/** The first bytes of every header. */
export const CPIO_MAGIC = "070701";

export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;
export const S_IFLNK = 0o120000;
export const S_IFCHR = 0o020000;

/** A file, directory, link or device node. */
export interface CpioEntry {
	/** Path without a leading slash. */
	name: string;
	/** Type (S_IF*) and permissions. */
	mode: number;
	/** Contents of a file, or target of a link. */
	data?: Uint8Array;
	/** A device's numbers. */
	major?: number;
	minor?: number;
}

/** The archive of `entries`, in this order. A directory must come before its files. */
export function packCpio(entries: readonly CpioEntry[]): Buffer {
	const parts: Uint8Array[] = [];
	const trailer: CpioEntry = { name: "TRAILER!!!", mode: 0 };
	for (const [index, entry] of [...entries, trailer].entries()) {
		const name = Buffer.from(`${entry.name}\0`);
		const data = entry.data ?? new Uint8Array(0);
		const links = (entry.mode & S_IFDIR) === S_IFDIR ? 2 : 1;
		const fields = [
			entry === trailer ? 0 : index + 1,
			entry.mode,
			0,
			0,
			links,
			0,
			data.length,
			0,
			0,
			entry.major ?? 0,
			entry.minor ?? 0,
			name.length,
			0,
		];
		const header = Buffer.from(`${CPIO_MAGIC}${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
		parts.push(header, name, padding(header.length + name.length), data, padding(data.length));
	}
	return Buffer.concat(parts);
}

function padding(length: number): Uint8Array {
	return new Uint8Array((4 - (length % 4)) % 4);
}
