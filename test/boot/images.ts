/*
 * Kernel images for tests, in which every field can be made wrong.
 */
import { GuestMemory } from "../../src/base/guest-memory.ts";

/** RAM of that many MiB in windows of at most `windowMiB`, without a host address. */
export function fakeMemory(memoryMiB: number, windowMiB = memoryMiB): GuestMemory {
	const regions = [];
	for (let at = 0; at < memoryMiB; at += windowMiB) {
		const sizeBytes = Math.min(windowMiB, memoryMiB - at) << 20;
		regions.push({ gpa: at * (1 << 20), sizeBytes, hva: 0, buffer: new ArrayBuffer(sizeBytes) });
	}
	return new GuestMemory(regions);
}

export interface ElfOptions {
	paddr?: number;
	code?: Buffer;
	memoryBytes?: number;
	entry?: number;
	/** Adds a PVH note with this entry point. */
	pvhEntry?: number;
}

/** A vmlinux with one PT_LOAD segment and perhaps a PT_NOTE. */
export function elfImage(options: ElfOptions = {}): Buffer {
	const paddr = options.paddr ?? 0x1000000;
	const code = options.code ?? Buffer.alloc(8192, 0x90);
	const headers = Buffer.alloc(64 + 2 * 56);
	headers.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
	headers.writeUInt16LE(2, 16);
	headers.writeUInt16LE(62, 18);
	headers.writeUInt32LE(1, 20);
	headers.writeBigUInt64LE(BigInt(options.entry ?? paddr), 24);
	headers.writeBigUInt64LE(64n, 32);
	headers.writeUInt16LE(64, 52);
	headers.writeUInt16LE(56, 54);
	headers.writeUInt16LE(options.pvhEntry === undefined ? 1 : 2, 56);
	const note = Buffer.alloc(20);
	note.writeUInt32LE(4, 0);
	note.writeUInt32LE(4, 4);
	note.writeUInt32LE(18, 8);
	note.write("Xen\0", 12, "latin1");
	note.writeUInt32LE(options.pvhEntry ?? 0, 16);
	const codeAt = headers.length + note.length;
	const segment = (at: number, type: number, offset: number, address: number, file: number, memory: number) => {
		headers.writeUInt32LE(type, at);
		headers.writeBigUInt64LE(BigInt(offset), at + 8);
		headers.writeBigUInt64LE(BigInt(address), at + 24);
		headers.writeBigUInt64LE(BigInt(file), at + 32);
		headers.writeBigUInt64LE(BigInt(memory), at + 40);
	};
	segment(64, 1, codeAt, paddr, code.length, options.memoryBytes ?? code.length + 4096);
	if (options.pvhEntry !== undefined) segment(120, 4, headers.length, 0, note.length, note.length);
	return Buffer.concat([headers, note, code]);
}

export interface BzImageOptions {
	version?: number;
	loadflags?: number;
	xloadflags?: number;
	prefAddress?: number;
	initSize?: number;
	code?: Buffer;
}

/** A bzImage with four setup sectors. */
export function bzImage(options: BzImageOptions = {}): Buffer {
	const code = options.code ?? Buffer.alloc(4096, 0x90);
	const setup = Buffer.alloc(5 * 512);
	setup[0x1f1] = 4;
	setup.writeUInt32LE(Math.ceil(code.length / 16), 0x1f4);
	setup.writeUInt16LE(0xaa55, 0x1fe);
	setup.set([0xeb, 0x6a], 0x200);
	setup.write("HdrS", 0x202, "latin1");
	setup.writeUInt16LE(options.version ?? 0x020f, 0x206);
	setup.writeUInt16LE(0x300 - 0x200, 0x20e);
	setup[0x211] = options.loadflags ?? 1;
	setup.writeUInt32LE(0x100000, 0x214);
	setup.writeUInt32LE(0x7fffffff, 0x22c);
	setup.writeUInt32LE(0x200000, 0x230);
	setup[0x234] = 1;
	setup.writeUInt16LE(options.xloadflags ?? 1, 0x236);
	setup.writeUInt32LE(2047, 0x238);
	setup.writeBigUInt64LE(BigInt(options.prefAddress ?? 0x1000000), 0x258);
	setup.writeUInt32LE(options.initSize ?? 1 << 20, 0x260);
	setup.write("6.1.0-test (somebody) #1\0", 0x300, "latin1");
	return Buffer.concat([setup, code]);
}
