/*
 * The symbols of an ELF vmlinux: names for addresses and addresses for names (System V gABI, chapter 4, "Symbol Table").
 * `tsvmm kernel build` keeps those of its kernel in vmlinux.debug, beside the vmlinux; a kernel of one's own may have them
 * in itself. A distribution's kernel has none.
 */
import { type FileHandle, open } from "node:fs/promises";
import { errnoName, explain, ImageError } from "../base/errors.ts";
import { struct } from "../base/struct.ts";
import { Elf64_Ehdr, isElf64 } from "../boot/elf.ts";

export const Elf64_Shdr = struct("Elf64_Shdr", {
	sh_name: "u32",
	sh_type: "u32",
	sh_flags: "u64",
	sh_addr: "u64",
	sh_offset: "u64",
	sh_size: "u64",
	sh_link: "u32",
	sh_info: "u32",
	sh_addralign: "u64",
	sh_entsize: "u64",
});

export const Elf64_Sym = struct("Elf64_Sym", {
	st_name: "u32",
	st_info: "u8",
	st_other: "u8",
	st_shndx: "u16",
	st_value: "u64",
	st_size: "u64",
});

const SHT_SYMTAB = 2;
const SHN_UNDEF = 0;
const SHN_LORESERVE = 0xff00;
const STT_SECTION = 3;
const STT_FILE = 4;
const STB_GLOBAL = 1;
/** More than the largest kernel's table or names have. */
const MAX_TABLE_BYTES = 256 << 20;

/** A symbol and how far behind it an address is. */
export interface NearSymbol {
	readonly name: string;
	readonly address: bigint;
	readonly offset: bigint;
}

export class Symbols {
	/** The file that they are from; undefined when there is none. */
	readonly path: string | undefined;
	readonly #names: Buffer;
	/** Sorted. */
	readonly #addresses: BigUint64Array;
	/** In #names, of each address. */
	readonly #at: Uint32Array;
	/** After the last symbol's bytes. */
	readonly #end: bigint;

	/**
	 * Reads the symbols of a vmlinux, from itself or from the file `PATH.debug`. There are none when neither has any.
	 *
	 * @throws ImageError ERR_SYMBOLS for a file that cannot be read or is damaged
	 */
	static async read(path: string): Promise<Symbols> {
		for (const file of [path, `${path}.debug`]) {
			const found = await readSymbols(file, file !== path);
			if (found !== undefined) return found;
		}
		return new Symbols(undefined, [], Buffer.alloc(0));
	}

	/** @param names strings that end with NUL, at the `name` of each symbol */
	constructor(path: string | undefined, all: readonly RawSymbol[], names: Buffer) {
		/* Of several at one address the global one is told. */
		const sorted = places(all).toSorted((a, b) => Number(a.address - b.address) || Number(b.global) - Number(a.global));
		const kept = sorted.filter((one, i) => i === 0 || one.address !== sorted[i - 1]!.address);
		this.path = path;
		this.#names = names;
		this.#addresses = BigUint64Array.from(kept, ({ address }) => address);
		this.#at = Uint32Array.from(kept, ({ name }) => name);
		this.#end = lastEnd(kept);
	}

	/** How many addresses have a name. */
	get count(): number {
		return this.#addresses.length;
	}

	/** The last symbol at or before `address`; undefined outside the kernel. */
	nearest(address: bigint): NearSymbol | undefined {
		if (address >= this.#end) return undefined;
		let low = 0;
		let high = this.#addresses.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (this.#addresses[middle]! <= address) low = middle + 1;
			else high = middle;
		}
		if (low === 0) return undefined;
		const found = this.#addresses[low - 1]!;
		return { name: this.#name(low - 1), address: found, offset: address - found };
	}

	/** "start_kernel+0x12", or the address in hexadecimal where there is no symbol. */
	describe(address: bigint): string {
		const near = this.nearest(address);
		if (near === undefined) return `0x${address.toString(16)}`;
		return near.offset === 0n ? near.name : `${near.name}+0x${near.offset.toString(16)}`;
	}

	/** The address of a symbol that is the first at its address. */
	find(name: string): bigint | undefined {
		const wanted = Buffer.from(`${name}\0`, "latin1");
		const at = this.#at.findIndex((from) => this.#names.subarray(from, from + wanted.length).equals(wanted));
		return at < 0 ? undefined : this.#addresses[at];
	}

	#name(i: number): string {
		const from = this.#at[i]!;
		const end = this.#names.indexOf(0, from);
		return this.#names.toString("latin1", from, end < 0 ? this.#names.length : end);
	}
}

/** Without the variables of each CPU, when there is kernel code: their addresses are offsets from 0 on. */
function places(all: readonly RawSymbol[]): readonly RawSymbol[] {
	const high = all.filter(({ address }) => address >> 63n === 1n);
	return high.length > 0 ? high : all;
}

function lastEnd(all: readonly RawSymbol[]): bigint {
	let end = 0n;
	for (const { address, size } of all) if (address + size > end) end = address + size;
	return end;
}

interface RawSymbol {
	readonly address: bigint;
	readonly size: bigint;
	/** Where its name begins. */
	readonly name: number;
	readonly global: boolean;
}

/** Undefined for a file without a symbol table, or one that is missing though that is fine. */
async function readSymbols(path: string, mayBeMissing: boolean): Promise<Symbols | undefined> {
	let file: FileHandle | undefined;
	try {
		file = await open(path, "r");
		return await parse(file, path);
	} catch (cause) {
		if (cause instanceof ImageError) throw cause;
		if (mayBeMissing && errnoName(cause) === "ENOENT") return undefined;
		throw new ImageError("ERR_SYMBOLS", `Cannot read the symbols of ${path}: ${explain(cause)}`, { cause });
	} finally {
		await file?.close();
	}
}

async function parse(file: FileHandle, path: string): Promise<Symbols | undefined> {
	const head = await readPart(file, path, { offset: 0, bytes: Elf64_Ehdr.sizeof });
	if (!isElf64(head)) throw damaged(path, "it is no ELF file for x86-64");
	const count = head.readUInt16LE(Elf64_Ehdr.e_shnum);
	if (count === 0) return undefined;
	const offset = Number(head.readBigUInt64LE(Elf64_Ehdr.e_shoff));
	const sections = await readPart(file, path, { offset, bytes: count * Elf64_Shdr.sizeof });
	const section = (i: number) => sections.subarray(i * Elf64_Shdr.sizeof, (i + 1) * Elf64_Shdr.sizeof);
	const contents = (header: Buffer) =>
		readPart(file, path, {
			offset: Number(header.readBigUInt64LE(Elf64_Shdr.sh_offset)),
			bytes: Number(header.readBigUInt64LE(Elf64_Shdr.sh_size)),
		});
	for (let i = 0; i < count; i++) {
		const header = section(i);
		if (header.readUInt32LE(Elf64_Shdr.sh_type) !== SHT_SYMTAB) continue;
		const strings = header.readUInt32LE(Elf64_Shdr.sh_link);
		if (strings >= count) throw damaged(path, `its symbols have their names in section ${strings} of ${count}`);
		return new Symbols(path, rawSymbols(await contents(header)), await contents(section(strings)));
	}
	return undefined;
}

/** Those that stand for a place in memory. */
function rawSymbols(table: Buffer): RawSymbol[] {
	const all: RawSymbol[] = [];
	for (let at = 0; at + Elf64_Sym.sizeof <= table.length; at += Elf64_Sym.sizeof) {
		const info = table.readUInt8(at + Elf64_Sym.st_info);
		const type = info & 0xf;
		const place = table.readUInt16LE(at + Elf64_Sym.st_shndx);
		const name = table.readUInt32LE(at + Elf64_Sym.st_name);
		const isPlace = place !== SHN_UNDEF && place < SHN_LORESERVE && type !== STT_SECTION && type !== STT_FILE;
		if (!isPlace || name === 0) continue;
		all.push({
			address: table.readBigUInt64LE(at + Elf64_Sym.st_value),
			size: table.readBigUInt64LE(at + Elf64_Sym.st_size),
			name,
			global: info >> 4 === STB_GLOBAL,
		});
	}
	return all;
}

async function readPart(
	file: FileHandle,
	path: string,
	{ offset, bytes }: { offset: number; bytes: number },
): Promise<Buffer> {
	if (bytes > MAX_TABLE_BYTES) throw damaged(path, `a table of it has ${bytes} bytes`);
	const { size } = await file.stat();
	if (offset + bytes > size) throw damaged(path, `it has ${size} bytes, its headers speak of ${offset + bytes}`);
	const buffer = Buffer.alloc(bytes);
	await file.read(buffer, 0, bytes, offset);
	return buffer;
}

function damaged(path: string, found: string): ImageError {
	return new ImageError("ERR_SYMBOLS", `Cannot read the symbols of ${path}: ${found}`);
}
