/*
 * An ELF vmlinux: its PT_LOAD segments go to their physical addresses. A PVH note (XEN_ELFNOTE_PHYS32_ENTRY,
 * xen/include/public/elfnote.h) names the 32-bit entry point; a vmlinux without
 * one is entered at e_entry in long mode by the 64-bit boot protocol. Layouts: System V gABI, chapter 4 and 5.
 */
import { ImageError } from "../base/errors.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import { struct } from "../base/struct.ts";
import { u64 } from "../base/u64.ts";
import { HIGH_MEMORY_START } from "./addresses.ts";
import { type ImageFile, tooBig } from "./image-file.ts";
import type { LoadedKernel } from "./loaded.ts";

export const Elf64_Ehdr = struct("Elf64_Ehdr", {
	e_ident_magic: "u32",
	e_ident_class: "u8",
	e_ident_data: "u8",
	e_ident_rest: "u16",
	e_ident_pad: "u64",
	e_type: "u16",
	e_machine: "u16",
	e_version: "u32",
	e_entry: "u64",
	e_phoff: "u64",
	e_shoff: "u64",
	e_flags: "u32",
	e_ehsize: "u16",
	e_phentsize: "u16",
	e_phnum: "u16",
	e_shentsize: "u16",
	e_shnum: "u16",
	e_shstrndx: "u16",
});

export const Elf64_Phdr = struct("Elf64_Phdr", {
	p_type: "u32",
	p_flags: "u32",
	p_offset: "u64",
	p_vaddr: "u64",
	p_paddr: "u64",
	p_filesz: "u64",
	p_memsz: "u64",
	p_align: "u64",
});

const ELFMAG = 0x464c457f;
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const ET_EXEC = 2;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
/* Limits for a kernel. A vmlinux has about five segments and a note of a few hundred bytes. */
const MAX_SEGMENTS = 64;
const MAX_NOTE_BYTES = 1 << 20;
const PAGE = 4096;
/* COMMAND_LINE_SIZE of x86 kernels, less the NUL. */
const CMDLINE_BYTES = 2047;

/** True when the file starts like a 64-bit x86 executable. */
export function isElfKernel(head: Buffer): boolean {
	return isElf64(head) && head.readUInt16LE(Elf64_Ehdr.e_type) === ET_EXEC;
}

/** True when the file starts like a 64-bit x86 ELF file of any type. */
export function isElf64(head: Buffer): boolean {
	return (
		head.length >= Elf64_Ehdr.e_version &&
		head.readUInt32LE(Elf64_Ehdr.e_ident_magic) === ELFMAG &&
		head[Elf64_Ehdr.e_ident_class] === ELFCLASS64 &&
		head[Elf64_Ehdr.e_ident_data] === ELFDATA2LSB &&
		head.readUInt16LE(Elf64_Ehdr.e_machine) === EM_X86_64
	);
}

interface Segment {
	readonly paddr: number;
	readonly memoryBytes: number;
	readonly offset: number;
	readonly fileBytes: number;
}

/** Loads the vmlinux in `file`, whose first bytes are `head`. @throws ImageError */
export async function loadElf(
	memory: GuestMemory,
	file: ImageFile,
	head: Buffer,
	lowRamEnd: number,
): Promise<LoadedKernel> {
	file.read(0, Elf64_Ehdr.sizeof, "the ELF header");
	const phnum = head.readUInt16LE(Elf64_Ehdr.e_phnum);
	const phentsize = head.readUInt16LE(Elf64_Ehdr.e_phentsize);
	if (phnum === 0 || phnum > MAX_SEGMENTS || phentsize !== Elf64_Phdr.sizeof) {
		throw malformed(file, `its header has ${phnum} segments of ${phentsize} bytes`);
	}
	const table = file.read(field64(head, Elf64_Ehdr.e_phoff, file), phnum * phentsize, "the program header table");
	const segments: Segment[] = [];
	let pvhEntry: number | undefined;
	for (let at = 0; at < table.length; at += phentsize) {
		const type = table.readUInt32LE(at + Elf64_Phdr.p_type);
		if (type !== PT_LOAD && type !== PT_NOTE) continue;
		const offset = field64(table, at + Elf64_Phdr.p_offset, file);
		const fileBytes = field64(table, at + Elf64_Phdr.p_filesz, file);
		if (type === PT_NOTE) {
			if (fileBytes > MAX_NOTE_BYTES) throw malformed(file, `it has a note of ${fileBytes} bytes`);
			pvhEntry ??= findPvhEntry(file.read(offset, fileBytes, "a note segment"));
			continue;
		}
		const memoryBytes = field64(table, at + Elf64_Phdr.p_memsz, file);
		if (memoryBytes === 0) continue;
		segments.push({ paddr: field64(table, at + Elf64_Phdr.p_paddr, file), memoryBytes, offset, fileBytes });
	}
	const { start, end } = extent(file, segments, lowRamEnd);
	const entry = pvhEntry ?? field64(head, Elf64_Ehdr.e_entry, file);
	if (!segments.some((s) => entry >= s.paddr && entry < s.paddr + s.memoryBytes)) {
		throw malformed(file, `its entry point 0x${entry.toString(16)} lies in no segment`);
	}
	for (const { paddr, offset, fileBytes } of segments) {
		await file.load(memory, paddr, { position: offset, length: fileBytes, part: "a segment" });
	}
	return {
		format: "elf",
		protocol: pvhEntry === undefined ? "linux64" : "pvh",
		entry,
		start,
		end,
		cmdlineBytes: CMDLINE_BYTES,
		initrdMax: lowRamEnd - 1,
	};
}

/** The pages from the lowest to the highest segment, all of them in RAM. */
function extent(file: ImageFile, segments: Segment[], lowRamEnd: number): { start: number; end: number } {
	if (segments.length === 0) throw malformed(file, "it has nothing to load");
	for (const { paddr, memoryBytes, fileBytes } of segments) {
		if (fileBytes > memoryBytes) throw malformed(file, "a segment is larger in the file than in memory");
		if (paddr < HIGH_MEMORY_START) {
			throw malformed(file, `a segment wants to be at 0x${paddr.toString(16)}, below 1 MiB`);
		}
	}
	const start = Math.min(...segments.map((s) => s.paddr));
	const end = Math.max(...segments.map((s) => s.paddr + s.memoryBytes));
	if (end > lowRamEnd) throw tooBig(file, end, lowRamEnd);
	return { start: Math.floor(start / PAGE) * PAGE, end: Math.min(lowRamEnd, Math.ceil(end / PAGE) * PAGE) };
}

/** The entry address in the Xen note of type PHYS32_ENTRY, if there is one (name and desc padded to 4 bytes). */
function findPvhEntry(notes: Buffer): number | undefined {
	for (let at = 0; at + 12 <= notes.length; ) {
		const nameBytes = notes.readUInt32LE(at);
		const descBytes = notes.readUInt32LE(at + 4);
		const type = notes.readUInt32LE(at + 8);
		const desc = at + 12 + pad4(nameBytes);
		if (desc + descBytes > notes.length) return undefined;
		const name = notes.toString("latin1", at + 12, at + 12 + nameBytes);
		if (name === "Xen\0" && type === XEN_ELFNOTE_PHYS32_ENTRY && descBytes >= 4) return notes.readUInt32LE(desc);
		at = desc + pad4(descBytes);
	}
	return undefined;
}

function pad4(bytes: number): number {
	return Math.ceil(bytes / 4) * 4;
}

/** A 64-bit field as a number. A field above 2^52 is an error, because no file or RAM is so large. */
function field64(bytes: Buffer, at: number, file: ImageFile): number {
	const value = u64(bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4));
	if (value >= 2 ** 52) throw malformed(file, `a header field is 0x${value.toString(16)}`);
	return value;
}

function malformed(file: ImageFile, found: string): ImageError {
	return new ImageError("ERR_KERNEL_FORMAT", `Cannot load kernel ${file.path}: not a bootable vmlinux: ${found}`);
}
