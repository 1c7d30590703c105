/*
 * Reads the members of a tar archive from a seekable file, without their content: ustar, pax (local and global
 * records), GNU long names and base-256 numbers, old V7. The usual library does not do: it decodes extended attributes
 * (SCHILY.xattr.*, such as security.capability) and file names as UTF-8, which destroys their bytes, and it streams
 * contents, which are found by offset here.
 */
import { malformed } from "../failure.ts";
import { type FileRange, quoted, readRange, type TarEntry, type TarType } from "./entry.ts";
import { type PaxField, PaxState } from "./pax.ts";

const BLOCK = 512;
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
 * @throws ImageError ERR_IMAGE_MALFORMED when a header is damaged or the archive ends within a member,
 *   ERR_IMAGE_TOO_LARGE when a member has more than 128 KiB of extended attributes
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
	const pax = new PaxState(range, file);
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
		const size = (special ? undefined : decimal(pax, "size", file)) ?? number(header, 124, 12);
		if (!Number.isSafeInteger(size) || size < 0) throw malformed(file, `impossible size at byte ${offset}`);
		/* Links, devices and directories have no content, even if the header states a size. */
		const stored = "123456".includes(type) ? 0 : size;
		const end = content + Math.ceil(stored / BLOCK) * BLOCK;
		if (content + stored > range.size) {
			throw malformed(file, `the archive is cut off within the member at byte ${offset}`);
		}
		offset = end;
		if (special) {
			pax.count(content, size);
			if (type === "V") continue;
			if (type === "L") pax.addLongName("path", content, size);
			else if (type === "K") pax.addLongName("linkpath", content, size);
			else if (type === "g") pax.addGlobal(content, size);
			else pax.addLocal(content, size);
			continue;
		}
		yield entryOf({ header, type, content, stored }, pax, file);
		pax.next();
	}
}

/** A member as its header has it. */
interface Member {
	readonly header: Buffer;
	readonly type: string;
	/** Where its content begins. */
	readonly content: number;
	/** Bytes of content in the archive. */
	readonly stored: number;
}

function entryOf({ header, type: typeflag, content, stored }: Member, pax: PaxState, file: string): TarEntry {
	let path = pax.get("path") ?? text(header, 0, 100);
	if (pax.get("path") === undefined && text(header, 257, 6) === "ustar" && header[345] !== 0) {
		path = `${text(header, 345, 155)}/${path}`;
	}
	let type = TYPES[typeflag];
	if (type === undefined || pax.isSparse) {
		const what = pax.isSparse || typeflag === "S" ? "a sparse file" : `a member of type ${JSON.stringify(typeflag)}`;
		throw malformed(file, `${quoted(path)} is ${what}, which is not supported`);
	}
	if (type === "file" && path.endsWith("/")) type = "directory";
	const target = pax.get("linkpath") ?? text(header, 157, 100);
	if (path.includes("\0") || target.includes("\0")) throw malformed(file, `a NUL byte in path ${quoted(path)}`);
	const device = type === "char" || type === "block";
	const entry: TarEntry = {
		path,
		type,
		mode: number(header, 100, 8) & 0o7777,
		uid: decimal(pax, "uid", file) ?? number(header, 108, 8),
		gid: decimal(pax, "gid", file) ?? number(header, 116, 8),
		mtime: Math.floor(decimal(pax, "mtime", file) ?? number(header, 136, 12)),
		target,
		major: device ? number(header, 329, 8) : 0,
		minor: device ? number(header, 337, 8) : 0,
		xattrs: pax.xattrs,
		size: type === "file" ? stored : 0,
		offset: content,
	};
	const whole = (value: number, most: number) => Number.isInteger(value) && value >= 0 && value <= most;
	if (!whole(entry.uid, 0xffff_fffe) || !whole(entry.gid, 0xffff_fffe)) {
		throw malformed(file, `owner ${entry.uid}:${entry.gid} of ${quoted(path)} is out of range`);
	}
	if (!whole(entry.major, 0xfff) || !whole(entry.minor, 0xf_ffff)) {
		throw malformed(file, `device ${entry.major}:${entry.minor} of ${quoted(path)} is out of range`);
	}
	if (!Number.isFinite(entry.mtime)) throw malformed(file, `the time of ${quoted(path)} is no number`);
	return entry;
}

function decimal(pax: PaxState, key: PaxField, file: string): number | undefined {
	const value = pax.get(key);
	if (value === undefined || value === "") return undefined;
	if (!/^-?\d+(\.\d*)?$/.test(value)) throw malformed(file, `pax ${key} is ${quoted(value)}, not a number`);
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
