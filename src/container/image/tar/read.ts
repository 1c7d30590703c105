/*
 * Reads the members of a tar archive from a seekable file without touching their content: ustar, pax (local and global
 * records), GNU long names and base-256 numbers, old V7. Written here and not taken from a library because extended
 * attributes (pax SCHILY.xattr.*, such as security.capability) and file names are bytes, which the usual library
 * decodes as UTF-8 and so destroys; and because contents are found by offset, never streamed.
 */
import { malformed } from "../failure.ts";
import { type FileRange, readRange, type TarEntry, type TarType } from "./entry.ts";

const BLOCK = 512;
/** Longest pax header or GNU long name, in bytes: names are at most 4 KiB, xattrs at most 64 KiB each. */
const MAX_EXTENSION = 1024 * 1024;
const WINDOW = 64 * 1024;

const TYPES: Record<string, TarType> = {
	"0": "file",
	"\0": "file",
	"7": "file",
	"1": "link",
	"2": "symlink",
	"3": "char",
	"4": "block",
	"5": "directory",
	"6": "fifo",
};

/** True when the first block of the range is a tar header or the end mark of an empty archive. */
export function looksLikeTar(range: FileRange): boolean {
	const block = readRange(range, 0, BLOCK);
	if (block.length < BLOCK) return false;
	return block.every((byte) => byte === 0) || checksumOf(block) === number(block, 148, 8);
}

/**
 * The members in the order of the archive.
 *
 * @param file what to call the archive in messages
 * @throws ImageError ERR_IMAGE_MALFORMED when a header is damaged or the archive ends within a member
 */
export function* readTar(range: FileRange, file: string): Generator<TarEntry> {
	let window: Buffer = Buffer.alloc(0);
	let windowAt = 0;
	const blockAt = (offset: number): Buffer => {
		if (offset < windowAt || offset + BLOCK > windowAt + window.length) {
			window = readRange(range, offset, WINDOW);
			windowAt = offset;
		}
		return window.subarray(offset - windowAt, offset - windowAt + BLOCK);
	};
	let global = new Map<string, Buffer>();
	let local = new Map<string, Buffer>();
	for (let offset = 0; offset < range.size; ) {
		const header = blockAt(offset);
		if (header.length < BLOCK) throw malformed(file, `the archive ends within a header (byte ${offset})`);
		if (header[0] === 0 && header.every((byte) => byte === 0)) return;
		if (checksumOf(header) !== number(header, 148, 8)) {
			throw malformed(file, `damaged tar header at byte ${offset}: wrong checksum`);
		}
		const type = String.fromCharCode(header[156]!);
		const content = offset + BLOCK;
		const special = "gxLKXV".includes(type);
		const size = (special ? undefined : decimal(local, global, "size", file)) ?? number(header, 124, 12);
		if (!Number.isSafeInteger(size) || size < 0) throw malformed(file, `impossible size at byte ${offset}`);
		/* Links, devices and folders have no content, whatever their header says. */
		const stored = "123456".includes(type) ? 0 : size;
		const end = content + Math.ceil(stored / BLOCK) * BLOCK;
		if (content + stored > range.size) {
			throw malformed(file, `the archive is cut off within the member at byte ${offset}`);
		}
		offset = end;
		if (special) {
			if (type === "V") continue;
			if (size > MAX_EXTENSION) throw malformed(file, `a pax header of ${size} bytes at byte ${content}`);
			const data = readRange(range, content, size);
			if (type === "L") local.set("path", upToNul(data));
			else if (type === "K") local.set("linkpath", upToNul(data));
			else if (type === "g") global = new Map([...global, ...paxRecords(data, file)]);
			else for (const [key, value] of paxRecords(data, file)) local.set(key, value);
			continue;
		}
		yield entryOf(header, type, local, global, file, content, stored);
		local = new Map();
	}
}

function entryOf(
	header: Buffer,
	typeflag: string,
	local: Map<string, Buffer>,
	global: Map<string, Buffer>,
	file: string,
	offset: number,
	size: number,
): TarEntry {
	const pax = (key: string) => local.get(key) ?? global.get(key);
	let path = pax("path")?.toString("latin1") ?? text(header, 0, 100);
	if (pax("path") === undefined && text(header, 257, 6) === "ustar" && header[345] !== 0) {
		path = `${text(header, 345, 155)}/${path}`;
	}
	let type = TYPES[typeflag];
	const sparse = [...local.keys(), ...global.keys()].some((key) => key.startsWith("GNU.sparse."));
	if (type === undefined || sparse) {
		const what = sparse || typeflag === "S" ? "a sparse file" : `a member of type ${JSON.stringify(typeflag)}`;
		throw malformed(file, `${JSON.stringify(path)} is ${what}, which is not supported`);
	}
	if (type === "file" && path.endsWith("/")) type = "directory";
	const target = pax("linkpath")?.toString("latin1") ?? text(header, 157, 100);
	if (path.includes("\0") || target.includes("\0")) throw malformed(file, `a NUL byte in path ${JSON.stringify(path)}`);
	const device = type === "char" || type === "block";
	const entry: TarEntry = {
		path,
		type,
		mode: number(header, 100, 8) & 0o7777,
		uid: decimal(local, global, "uid", file) ?? number(header, 108, 8),
		gid: decimal(local, global, "gid", file) ?? number(header, 116, 8),
		mtime: Math.floor(decimal(local, global, "mtime", file) ?? number(header, 136, 12)),
		target,
		major: device ? number(header, 329, 8) : 0,
		minor: device ? number(header, 337, 8) : 0,
		xattrs: xattrsOf(local, global),
		size: type === "file" ? size : 0,
		offset,
	};
	const whole = (value: number, most: number) => Number.isInteger(value) && value >= 0 && value <= most;
	if (!whole(entry.uid, 0xffff_fffe) || !whole(entry.gid, 0xffff_fffe)) {
		throw malformed(file, `owner ${entry.uid}:${entry.gid} of ${JSON.stringify(path)} is out of range`);
	}
	if (!whole(entry.major, 0xfff) || !whole(entry.minor, 0xf_ffff)) {
		throw malformed(file, `device ${entry.major}:${entry.minor} of ${JSON.stringify(path)} is out of range`);
	}
	if (!Number.isFinite(entry.mtime)) throw malformed(file, `the time of ${JSON.stringify(path)} is no number`);
	return entry;
}

const NO_XATTRS: ReadonlyMap<string, Buffer> = new Map();
const XATTR = "SCHILY.xattr.";

function xattrsOf(local: Map<string, Buffer>, global: Map<string, Buffer>): ReadonlyMap<string, Buffer> {
	let found: Map<string, Buffer> | undefined;
	for (const records of [global, local]) {
		for (const [key, value] of records) {
			if (!key.startsWith(XATTR)) continue;
			found ??= new Map();
			found.set(key.slice(XATTR.length), value);
		}
	}
	return found ?? NO_XATTRS;
}

/** "LENGTH KEY=VALUE\n" records; LENGTH counts itself, a value is any bytes. */
function* paxRecords(data: Buffer, file: string): Generator<[string, Buffer]> {
	for (let at = 0; at < data.length; ) {
		const space = data.indexOf(0x20, at);
		const digits = space < 0 ? "" : data.toString("latin1", at, space);
		const length = /^\d{1,7}$/.test(digits) ? Number(digits) : 0;
		const end = at + length;
		const equals = data.indexOf(0x3d, space);
		if (length < 5 || end > data.length || data[end - 1] !== 0x0a || equals < 0 || equals >= end) {
			throw malformed(file, "a damaged pax header");
		}
		yield [data.toString("latin1", space + 1, equals), Buffer.from(data.subarray(equals + 1, end - 1))];
		at = end;
	}
}

function decimal(
	local: Map<string, Buffer>,
	global: Map<string, Buffer>,
	key: string,
	file: string,
): number | undefined {
	const value = (local.get(key) ?? global.get(key))?.toString("latin1");
	if (value === undefined || value === "") return undefined;
	if (!/^-?\d+(\.\d*)?$/.test(value)) throw malformed(file, `pax ${key} is ${JSON.stringify(value)}, not a number`);
	return Number(value);
}

/** An octal number, or a base-256 one (first bit set, GNU). NaN when it is neither. */
function number(block: Buffer, at: number, length: number): number {
	const first = block[at]!;
	if ((first & 0x80) !== 0) {
		let value = first === 0xff ? -1 : first & 0x7f;
		for (let i = 1; i < length; i++) value = value * 256 + block[at + i]!;
		return value;
	}
	const digits = text(block, at, length).trim();
	return digits === "" ? 0 : /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
}

function checksumOf(block: Buffer): number {
	let sum = 8 * 0x20;
	for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += block[i]!;
	return sum;
}

function text(block: Buffer, at: number, length: number): string {
	return upToNul(block.subarray(at, at + length)).toString("latin1");
}

function upToNul(data: Buffer): Buffer {
	const nul = data.indexOf(0);
	return Buffer.from(nul < 0 ? data : data.subarray(0, nul));
}
