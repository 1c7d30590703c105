/*
 * Kernel files for the check of lab 5: an ELF file as `vmlinux` is one, and a bzImage, as small as can be. Their kernel
 * prints its command line (guests.ts).
 */
import { CMDLINE_KERNEL } from "./guests.ts";

/** Virtual minus physical addresses of Linux's kernel. */
const KERNEL_BASE = 0xffff_ffff_8000_0000n;

export const TEXT_AT = 0x10_0000;
export const DATA_AT = 0x11_0000;
export const DATA = "data of the kernel";
/** Of the data segment in memory: the rest is zero. */
export const DATA_BYTES = 0x100;
/** Code does not begin at the first byte of its segment. */
const ENTRY_OFFSET = 0x40;
export const ELF_ENTRY = TEXT_AT + ENTRY_OFFSET;

interface Segment {
	readonly type: number;
	readonly paddr: number;
	readonly bytes: Uint8Array;
	readonly memoryBytes: number;
}

const PT_LOAD = 1;
const PT_NOTE = 4;

/** An ELF kernel. @param dataAt where its second segment is to be */
export function elfKernel(dataAt = DATA_AT): Uint8Array {
	const text = Buffer.concat([Buffer.alloc(ENTRY_OFFSET, 0x90), CMDLINE_KERNEL]);
	return elf([
		{ type: PT_NOTE, paddr: 0x9000, bytes: Buffer.from("not to be loaded"), memoryBytes: 16 },
		{ type: PT_LOAD, paddr: TEXT_AT, bytes: text, memoryBytes: text.length },
		{ type: PT_LOAD, paddr: dataAt, bytes: Buffer.from(DATA), memoryBytes: DATA_BYTES },
	]);
}

function elf(segments: readonly Segment[]): Uint8Array {
	const header = Buffer.alloc(64 + 56 * segments.length);
	header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
	header.writeUInt16LE(2, 16); /* e_type: executable */
	header.writeUInt16LE(62, 18); /* e_machine: x86-64 */
	header.writeUInt32LE(1, 20);
	header.writeBigUInt64LE(BigInt(ELF_ENTRY), 24); /* e_entry */
	header.writeBigUInt64LE(64n, 32); /* e_phoff */
	header.writeUInt16LE(64, 52);
	header.writeUInt16LE(56, 54); /* e_phentsize */
	header.writeUInt16LE(segments.length, 56); /* e_phnum */
	let offset = header.length + 0x100;
	const pieces: Uint8Array[] = [header, Buffer.alloc(0x100, 0xff)];
	for (const [i, { type, paddr, bytes, memoryBytes }] of segments.entries()) {
		const at = 64 + 56 * i;
		header.writeUInt32LE(type, at);
		header.writeUInt32LE(5, at + 4);
		header.writeBigUInt64LE(BigInt(offset), at + 8); /* p_offset */
		header.writeBigUInt64LE(KERNEL_BASE + BigInt(paddr), at + 16); /* p_vaddr */
		header.writeBigUInt64LE(BigInt(paddr), at + 24); /* p_paddr */
		header.writeBigUInt64LE(BigInt(bytes.length), at + 32); /* p_filesz */
		header.writeBigUInt64LE(BigInt(memoryBytes), at + 40); /* p_memsz */
		offset += bytes.length;
		pieces.push(bytes);
	}
	return Buffer.concat(pieces);
}

/** Sectors of the bzImage's real-mode part, without the first. */
export const SETUP_SECTORS = 3;
const ENTRY64 = 0x200;
export const BZIMAGE_AT = 0x10_0000;
export const BZIMAGE_ENTRY = BZIMAGE_AT + ENTRY64;
/** The setup header in the file, and its end: 0x202 plus the byte at 0x201. */
export const HEADER_AT = 0x1f1;
export const HEADER_END = 0x202 + 0x66;

/** A bzImage. @param xloadflags bit 0: it has a 64-bit entry */
export function bzImage(xloadflags = 1): Uint8Array {
	const setup = Buffer.alloc(512 * (1 + SETUP_SECTORS), 0x5a);
	setup.fill(0, HEADER_AT, HEADER_END);
	setup[0x1f1] = SETUP_SECTORS;
	setup.writeUInt16LE(0xaa55, 0x1fe);
	setup.writeUInt16LE(0x66eb, 0x200);
	setup.write("HdrS", 0x202);
	setup.writeUInt16LE(0x20f, 0x206); /* version 2.15 */
	setup[0x211] = 1; /* loadflags: LOADED_HIGH */
	setup.writeUInt32LE(BZIMAGE_AT, 0x214);
	setup.writeUInt16LE(xloadflags, 0x236);
	setup.writeUInt32LE(2047, 0x238); /* cmdline_size */
	return Buffer.concat([setup, Buffer.alloc(ENTRY64, 0x90), CMDLINE_KERNEL]);
}
