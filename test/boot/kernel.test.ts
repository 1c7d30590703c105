import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ImageError } from "../../src/base/errors.ts";
import type { GuestMemory } from "../../src/base/guest-memory.ts";
import { loadInitrd, loadKernel, openInitrd, openKernel } from "../../src/boot/kernel.ts";
import type { LoadedInitrd, LoadedKernel } from "../../src/boot/loaded.ts";
import { bzImage, elfImage, fakeMemory } from "./images.ts";

const MIB = 1 << 20;
let directory: string;
beforeAll(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-kernel-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function file(content: Uint8Array | string, name = "image"): string {
	const path = join(directory, name);
	writeFileSync(path, content);
	return path;
}

async function load(content: Uint8Array | string, memoryMiB = 64) {
	const memory = fakeMemory(memoryMiB);
	return { memory, kernel: await kernelAt(memory, file(content), memoryMiB * MIB) };
}

async function kernelAt(memory: GuestMemory, path: string, lowRamEnd: number): Promise<LoadedKernel> {
	const image = openKernel(path);
	return await loadKernel(memory, image, lowRamEnd).finally(() => image.close());
}

async function initrdAt(memory: GuestMemory, path: string, kernel: LoadedKernel): Promise<LoadedInitrd> {
	const image = openInitrd(path);
	return await loadInitrd(memory, image, kernel, 64 * MIB).finally(() => image.close());
}

async function failure(act: () => Promise<unknown>): Promise<ImageError> {
	try {
		await act();
	} catch (error) {
		expect(error).toBeInstanceOf(ImageError);
		return error as ImageError;
	}
	throw new Error("nothing was thrown");
}

describe("loadKernel of an ELF vmlinux", () => {
	it("loadKernel prefers the PVH entry of the note", async () => {
		const { kernel } = await load(elfImage({ pvhEntry: 0x1000040 }));
		expect(kernel).toMatchObject({ format: "elf", protocol: "pvh", entry: 0x1000040, start: 0x1000000 });
	});

	it("loadKernel falls back to e_entry and the 64-bit protocol without a note", async () => {
		const { kernel } = await load(elfImage({ entry: 0x1000010 }));
		expect(kernel).toMatchObject({ protocol: "linux64", entry: 0x1000010 });
	});

	it("loadKernel copies the segment and counts its bss into the end", async () => {
		const code = Buffer.from(Array.from({ length: 5000 }, (_, i) => i & 0xff));
		const { memory, kernel } = await load(elfImage({ code, memoryBytes: 20000 }));
		expect(Buffer.from(memory.bytes(0x1000000, 5000)).equals(code)).toBe(true);
		expect(kernel.end).toBe(0x1000000 + 20480);
	});

	it("loadKernel fills a segment that crosses two memory windows", async () => {
		const code = Buffer.from(Array.from({ length: 65536 }, (_, i) => (i * 7) & 0xff));
		const memory = fakeMemory(64, 17);
		await kernelAt(memory, file(elfImage({ paddr: 17 * MIB - 1000, code })), 64 * MIB);
		expect(Buffer.from(memory.bytes(17 * MIB - 1000, 1000)).equals(code.subarray(0, 1000))).toBe(true);
		expect(Buffer.from(memory.bytes(17 * MIB, 64536)).equals(code.subarray(1000))).toBe(true);
	});

	it("loadKernel reports a file cut at any boundary as truncated, or as what is left of it", async () => {
		const image = elfImage({ pvhEntry: 0x1000000 });
		for (const length of [20, 63, 64, 100, 175, 176, 195, 196, image.length - 1]) {
			const error = await failure(() => load(image.subarray(0, length)));
			expect([length, error.code]).toEqual([length, "ERR_KERNEL_TRUNCATED"]);
		}
		expect((await failure(() => load(image.subarray(0, 19)))).message).toContain("cut off in its header");
	});

	it("loadKernel says how much memory a large kernel needs", async () => {
		const error = await failure(() => load(elfImage({ memoryBytes: 60 * MIB })));
		expect(error.code).toBe("ERR_KERNEL_TOO_BIG");
		expect(error.message).toContain("up to 76 MiB, the guest has 64 MiB");
	});

	it.each([
		["a segment below 1 MiB", elfImage({ paddr: 0x8000 }), "below 1 MiB"],
		["an entry outside all segments", elfImage({ entry: 0x2000000 }), "lies in no segment"],
		["a PVH entry outside all segments", elfImage({ pvhEntry: 0x100 }), "lies in no segment"],
		["a segment larger in the file", elfImage({ memoryBytes: 10 }), "larger in the file"],
	])("loadKernel refuses %s", async (_, image, words) => {
		const error = await failure(() => load(image));
		expect(error.code).toBe("ERR_KERNEL_FORMAT");
		expect(error.message).toContain(words);
	});

	it("loadKernel refuses sizes and addresses near 2^64", async () => {
		for (const at of [32, 64 + 8, 64 + 24, 64 + 32, 64 + 40]) {
			const image = elfImage();
			image.writeBigUInt64LE(0xffff_ffff_ffff_f000n, at);
			expect((await failure(() => load(image))).code).toBe("ERR_KERNEL_FORMAT");
		}
	});
});

describe("loadKernel of a bzImage", () => {
	it("loadKernel enters it 0x200 bytes in, where it prefers to be", async () => {
		const { memory, kernel } = await load(bzImage({ code: Buffer.alloc(4096, 0xcc) }));
		expect(kernel).toMatchObject({
			format: "bzImage",
			protocol: "linux64",
			entry: 0x1000200,
			start: 0x1000000,
			end: 0x1100000,
			initrdMax: 0x7fffffff,
			version: "6.1.0-test (somebody) #1",
		});
		expect(memory.u8(0x1000000)).toBe(0xcc);
		expect(memory.u8(0x1000fff)).toBe(0xcc);
		expect(kernel.setupHeader).toHaveLength(0x202 + 0x6a - 0x1f1);
	});

	it("loadKernel takes the default of four setup sectors for 0", async () => {
		const image = bzImage({ code: Buffer.alloc(4096, 0xcc) });
		image[0x1f1] = 0;
		expect((await load(image)).memory.u8(0x1000000)).toBe(0xcc);
	});

	it("loadKernel reports a file cut at any boundary as truncated", async () => {
		const image = bzImage();
		for (const length of [0x206, 0x267, 0x268, 512, 2559, 2560, image.length - 1].filter((n) => n > 0x205)) {
			const error = await failure(() => load(image.subarray(0, length)));
			expect([length, error.code]).toEqual([length, "ERR_KERNEL_TRUNCATED"]);
		}
	});

	it("loadKernel leaves room for the kernel to unpack itself", async () => {
		expect((await failure(() => load(bzImage({ initSize: 50 * MIB })))).code).toBe("ERR_KERNEL_TOO_BIG");
		expect((await load(bzImage({ initSize: 48 * MIB }))).kernel.end).toBe(64 * MIB);
	});

	it.each([
		["an old boot protocol", bzImage({ version: 0x20b }), "ERR_KERNEL_FORMAT", "2.11, need 2.12"],
		["a zImage", bzImage({ loadflags: 0 }), "ERR_KERNEL_FORMAT", "zImage"],
		["a 32-bit kernel", bzImage({ xloadflags: 0 }), "ERR_KERNEL_ARCH", "32-bit kernel"],
		["a load address below 1 MiB", bzImage({ prefAddress: 0x10000 }), "ERR_KERNEL_FORMAT", "0x10000"],
		["no code", bzImage({ code: Buffer.alloc(0) }), "ERR_KERNEL_FORMAT", "0 bytes"],
	])("loadKernel refuses %s", async (_, image, code, words) => {
		const error = await failure(() => load(image));
		expect(error.code).toBe(code);
		expect(error.message).toContain(words);
	});
});

describe("loadKernel of something else", () => {
	const padded = (start: string | number[], at = 0): Buffer => {
		const bytes = Buffer.alloc(1024, 0x11);
		bytes.set(typeof start === "string" ? Buffer.from(start, "latin1") : start, at);
		return bytes;
	};
	const elf = (cls: number, data: number, type: number[], machine: number[]): Buffer =>
		padded([0x7f, 0x45, 0x4c, 0x46, cls, data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...type, ...machine]);

	it.each([
		["an empty file", Buffer.alloc(0), "FORMAT"],
		["only zero bytes", Buffer.alloc(4096), "FORMAT"],
		["gzip data", padded([0x1f, 0x8b, 8]), "FORMAT"],
		["xz data", padded("\xfd7zXZ\0"), "FORMAT"],
		["zstd data", padded([0x28, 0xb5, 0x2f, 0xfd]), "FORMAT"],
		["lz4 data", padded([0x02, 0x21, 0x4c, 0x18]), "FORMAT"],
		["a PE executable", padded("MZ"), "FORMAT"],
		["a U-Boot uImage", padded([0x27, 0x05, 0x19, 0x56]), "FORMAT"],
		["a Linux Image for aarch64", padded("ARM\x64", 0x38), "ARCH"],
		["ELF for aarch64", elf(2, 1, [2, 0], [183, 0]), "ARCH"],
		["ELF for x86 (32-bit)", elf(1, 1, [2, 0], [3, 0]), "ARCH"],
		["ELF for S/390", elf(2, 2, [0, 2], [0, 22]), "ARCH"],
		["a kernel module", elf(2, 1, [1, 0], [62, 0]), "FORMAT"],
		["shared library", elf(2, 1, [3, 0], [62, 0]), "FORMAT"],
		["a cpio archive", padded("070701"), "FORMAT"],
		["a script", padded("#!/bin/sh\n"), "FORMAT"],
		["text", Buffer.from("Hello\n"), "FORMAT"],
		["unknown data starting with 1111111111111111", padded([]), "FORMAT"],
	])("loadKernel names %s", async (words, content, code) => {
		const error = await failure(() => load(content));
		expect(error.message).toContain(words);
		expect(error.code).toBe(`ERR_KERNEL_${code}`);
	});

	it("loadKernel reports a missing file and a directory as ERR_KERNEL_OPEN", async () => {
		const memory = fakeMemory(64);
		const missing = await failure(() => kernelAt(memory, join(directory, "nothing"), 64 * MIB));
		expect(missing.code).toBe("ERR_KERNEL_OPEN");
		expect(missing.message).toContain("no such file or directory");
		mkdirSync(join(directory, "sub"), { recursive: true });
		expect((await failure(() => kernelAt(memory, join(directory, "sub"), 64 * MIB))).message).toContain(
			"is a directory",
		);
	});

	it("loadKernel throws nothing but ImageError for random headers", async () => {
		let seed = 12345;
		const random = (below: number): number => {
			seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
			return Math.floor((seed / 0x80000000) * below);
		};
		const memory = fakeMemory(64);
		let refused = 0;
		for (let round = 0; round < 400; round++) {
			const image = round % 2 === 0 ? elfImage({ pvhEntry: 0x1000000 }) : bzImage();
			const headerBytes = round % 2 === 0 ? 196 : 0x268;
			for (let i = 0; i <= random(6); i++) image[random(headerBytes)] = random(3) === 0 ? 0xff : random(256);
			try {
				await kernelAt(memory, file(image.subarray(0, image.length - random(2) * random(image.length))), 64 * MIB);
			} catch (error) {
				expect(error).toBeInstanceOf(ImageError);
				refused++;
			}
		}
		expect(refused).toBeGreaterThan(100);
	});
});

describe("loadInitrd", () => {
	it("loadInitrd puts it at the top of low RAM, page-aligned", async () => {
		const { memory, kernel } = await load(elfImage());
		const content = Buffer.alloc(5000, 0x42);
		const initrd = await initrdAt(memory, file(content, "initrd"), kernel);
		expect(initrd).toEqual({ start: 64 * MIB - 8192, sizeBytes: 5000 });
		expect(Buffer.from(memory.bytes(initrd.start, 5000)).equals(content)).toBe(true);
	});

	it("loadInitrd stays below the kernel's initrd_addr_max", async () => {
		const image = bzImage();
		image.writeUInt32LE(0x2ffffff, 0x22c);
		const { memory, kernel } = await load(image);
		expect((await initrdAt(memory, file("x", "initrd"), kernel)).start).toBe(0x2fff000);
	});

	it("loadInitrd does not overwrite the kernel", async () => {
		const { memory, kernel } = await load(bzImage({ initSize: 47 * MIB }));
		const path = file("", "initrd");
		truncateSync(path, MIB + 1);
		const error = await failure(() => initrdAt(memory, path, kernel));
		expect(error.code).toBe("ERR_INITRD_TOO_BIG");
		expect(error.message).toContain("needs 1048577 bytes, the guest has 1048576 bytes");
		truncateSync(path, MIB);
		expect((await initrdAt(memory, path, kernel)).start).toBe(63 * MIB);
	});

	it("loadInitrd reports a missing and an empty file as ERR_INITRD_OPEN", async () => {
		const { memory, kernel } = await load(elfImage());
		const path = join(directory, "nothing");
		expect((await failure(() => initrdAt(memory, path, kernel))).code).toBe("ERR_INITRD_OPEN");
		expect((await failure(() => initrdAt(memory, file("", "initrd"), kernel))).code).toBe("ERR_INITRD_OPEN");
	});
});
