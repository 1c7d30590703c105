/*
 * The symbol table of an ELF vmlinux (System V gABI, chapter 4, "Symbol Table"). `tsvmm kernel build` keeps that of its
 * kernel in vmlinux.debug, beside the vmlinux; a kernel of one's own may have it in itself. A distribution's has none.
 */
import type { FileHandle } from "node:fs/promises";
import { ImageError } from "../../base/errors.ts";
import { struct } from "../../base/struct.ts";
import { Elf64_Ehdr, isElf64 } from "../../boot/elf.ts";
import { type RawSymbol, Symbols } from "./symbols.ts";

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

/**
 * Reads the symbols of an ELF file. Undefined when it has no table of them.
 *
 * @throws ImageError ERR_SYMBOLS for a file that is damaged
 */
export async function elfSymbols(file: FileHandle, path: string): Promise<Symbols | undefined> {
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
		return Symbols.of(path, rawSymbols(await contents(header)), await contents(section(strings)));
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

export function damaged(path: string, found: string, hint?: string): ImageError {
	const options = hint === undefined ? {} : { hint };
	return new ImageError("ERR_SYMBOLS", `Cannot read the symbols of ${path}: ${found}`, options);
}
