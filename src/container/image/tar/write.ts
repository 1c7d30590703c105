/*
 * Writes tar headers: ustar, with a pax header before it for long paths, large numbers and extended attributes. read.ts
 * reads the same values back.
 */
import type { TarEntry, TarType } from "./entry.ts";

const BLOCK = 512;
const TYPEFLAGS: Record<TarType, string> = {
	file: "0",
	link: "1",
	symlink: "2",
	char: "3",
	block: "4",
	directory: "5",
	fifo: "6",
};
/** The largest number in 7 octal digits (uid, gid), and in 11 (size, mtime). */
const OCTAL_7 = 0o7777777;
const OCTAL_11 = 0o77777777777;

export type TarHeader = Omit<TarEntry, "offset" | "xattrs"> & { xattrs: ReadonlyMap<string, Buffer> };

/** The header of one member, with its pax header if it needs one. The content and `padding` follow it. */
export function tarHeader(entry: TarHeader): Buffer {
	const path = entry.type === "directory" && !entry.path.endsWith("/") ? `${entry.path}/` : entry.path;
	const pax: [string, string | Buffer][] = [];
	if (path.length > 100) pax.push(["path", path]);
	if (entry.target.length > 100) pax.push(["linkpath", entry.target]);
	if (entry.uid > OCTAL_7) pax.push(["uid", String(entry.uid)]);
	if (entry.gid > OCTAL_7) pax.push(["gid", String(entry.gid)]);
	if (entry.size > OCTAL_11) pax.push(["size", String(entry.size)]);
	if (entry.mtime < 0 || entry.mtime > OCTAL_11) pax.push(["mtime", String(entry.mtime)]);
	for (const [name, value] of entry.xattrs) pax.push([`SCHILY.xattr.${name}`, value]);
	const main = block({ ...entry, path: path.slice(0, 100), target: entry.target.slice(0, 100) });
	if (pax.length === 0) return main;
	const records = Buffer.concat(pax.map(([key, value]) => paxRecord(key, value)));
	const extension = block({ ...entry, path: "pax", target: "", size: records.length, xattrs: new Map() }, "x");
	return Buffer.concat([extension, records, padding(records.length), main]);
}

/** The zeros that fill a member's content up to a whole block. */
export function padding(size: number): Buffer {
	return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
}

/** The two zero blocks at the end of an archive. */
export function tarEnd(): Buffer {
	return Buffer.alloc(2 * BLOCK);
}

function block(entry: TarHeader, typeflag = TYPEFLAGS[entry.type]): Buffer {
	const data = Buffer.alloc(BLOCK);
	const octal = (value: number, at: number, digits: number, most: number) =>
		data.write((value < 0 || value > most ? 0 : value).toString(8).padStart(digits, "0"), at, "latin1");
	data.write(entry.path, 0, "latin1");
	octal(entry.mode, 100, 7, OCTAL_7);
	octal(entry.uid, 108, 7, OCTAL_7);
	octal(entry.gid, 116, 7, OCTAL_7);
	octal(entry.size, 124, 11, OCTAL_11);
	octal(entry.mtime, 136, 11, OCTAL_11);
	data.write(typeflag, 156, "latin1");
	data.write(entry.target, 157, "latin1");
	data.write("ustar\x0000", 257, "latin1");
	octal(entry.major, 329, 7, OCTAL_7);
	octal(entry.minor, 337, 7, OCTAL_7);
	data.fill(0x20, 148, 156);
	const sum = data.reduce((total, byte) => total + byte, 0);
	data.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
	return data;
}

function paxRecord(key: string, value: string | Buffer): Buffer {
	const body = Buffer.concat([
		Buffer.from(` ${key}=`, "latin1"),
		typeof value === "string" ? Buffer.from(value, "latin1") : value,
		Buffer.from("\n"),
	]);
	let length = body.length + 1;
	while (String(length).length + body.length !== length) length = String(length).length + body.length;
	return Buffer.concat([Buffer.from(String(length)), body]);
}
