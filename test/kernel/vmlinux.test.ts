import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, expect, test } from "vitest";
import { extractVmlinux } from "../../src/kernel/vmlinux.ts";

const SETUP_SECTS = 3;
let directory: string;
let kernel: string;
let vmlinux: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
	kernel = join(directory, "vmlinuz");
	vmlinux = join(directory, "vmlinux");
});
afterEach(() => rmSync(directory, { recursive: true }));

/** The header and some bytes of an ELF file. */
function elf({ elfClass = 2, machine = 62 } = {}): Buffer {
	const file = Buffer.alloc(5000, "vmlinux ");
	file.write("\x7fELF", 0, "latin1");
	file[4] = elfClass;
	file.writeUInt16LE(machine, 18);
	return file;
}

/** A bzImage around a payload that sits 100 bytes into its protected-mode part. */
function bzImage(payload: Buffer, version = 0x20f): Buffer {
	const start = (SETUP_SECTS + 1) * 512 + 100;
	const image = Buffer.alloc(start + payload.length + 50);
	image[0x1f1] = SETUP_SECTS;
	image.write("HdrS", 0x202, "latin1");
	image.writeUInt16LE(version, 0x206);
	image.writeUInt32LE(100, 0x248);
	image.writeUInt32LE(payload.length, 0x24c);
	payload.copy(image, start);
	return image;
}

/** What the kernel's build does: compress, append the plain size. */
function pack(command: string, args: string[], plain: Buffer): Buffer {
	const size = Buffer.alloc(4);
	size.writeUInt32LE(plain.length);
	return Buffer.concat([execFileSync(command, args, { input: plain, stdio: ["pipe", "pipe", "ignore"] }), size]);
}

test.each([
	["gzip", () => gzipSync(elf())],
	["xz", () => pack("xz", ["--check=crc32", "-c"], elf())],
	["zstd", () => pack("zstd", ["-c"], elf())],
	["lz4", () => pack("lz4", ["-l", "-c"], elf())],
])("extractVmlinux unpacks a payload compressed by %s", async (_name, payload) => {
	writeFileSync(kernel, bzImage(payload()));
	await extractVmlinux(kernel, vmlinux);
	expect(readFileSync(vmlinux).equals(elf())).toBe(true);
	expect(readdirSync(directory).sort()).toEqual(["vmlinux", "vmlinuz"]);
});

test("extractVmlinux copies a kernel that is an ELF file", async () => {
	writeFileSync(kernel, elf());
	await extractVmlinux(kernel, vmlinux);
	expect(readFileSync(vmlinux).equals(elf())).toBe(true);
});

const damaged = gzipSync(elf());
damaged.fill(0xff, 20, 60);
test.each<[string, string, () => Buffer]>([
	["zeros", "ERR_KERNEL_FORMAT", () => Buffer.alloc(10_000)],
	["an empty file", "ERR_KERNEL_FORMAT", () => Buffer.alloc(0)],
	["a header cut short", "ERR_KERNEL_FORMAT", () => bzImage(gzipSync(elf())).subarray(0, 0x210)],
	["an old boot protocol", "ERR_KERNEL_FORMAT", () => bzImage(gzipSync(elf()), 0x207)],
	["a truncated file", "ERR_KERNEL_TRUNCATED", () => bzImage(gzipSync(elf())).subarray(0, -60)],
	["a damaged payload", "ERR_KERNEL_CORRUPT", () => bzImage(damaged)],
	["a damaged xz payload", "ERR_KERNEL_CORRUPT", () => bzImage(pack("xz", ["-c"], elf()).fill(7, 30, 60))],
	["a damaged zstd payload", "ERR_KERNEL_CORRUPT", () => bzImage(pack("zstd", ["-c"], elf()).fill(7, 6, 20))],
	["an unknown compression", "ERR_KERNEL_FORMAT", () => bzImage(Buffer.alloc(400, "unknown"))],
	["a payload that is no ELF file", "ERR_KERNEL_FORMAT", () => bzImage(gzipSync(Buffer.alloc(4000)))],
	["a 32-bit kernel", "ERR_KERNEL_ARCH", () => elf({ elfClass: 1, machine: 3 })],
	["an arm64 kernel", "ERR_KERNEL_ARCH", () => elf({ machine: 183 })],
])("extractVmlinux refuses %s and leaves nothing", async (_name, code, image) => {
	writeFileSync(kernel, image());
	await expect(extractVmlinux(kernel, vmlinux)).rejects.toMatchObject({ code });
	expect(readdirSync(directory)).toEqual(["vmlinuz"]);
});

test("extractVmlinux names a kernel that does not exist", async () => {
	await expect(extractVmlinux(kernel, vmlinux)).rejects.toThrow(/Cannot read kernel .*vmlinuz: no such file/);
});

test("extractVmlinux does not blame the kernel for what the host's file system refuses", async () => {
	writeFileSync(kernel, bzImage(pack("xz", ["-c"], elf())));
	/* xz -d -q -f FILE that leaves nothing to read. */
	writeFileSync(join(directory, "xz"), '#!/bin/sh\nrm "$4"\n', { mode: 0o755 });
	const { PATH } = process.env;
	process.env.PATH = `${directory}:${PATH}`;
	try {
		await expect(extractVmlinux(kernel, vmlinux)).rejects.toMatchObject({
			code: "ERR_CACHE",
			message: expect.stringMatching(/^Cannot decompress kernel .*: no such file or directory$/),
		});
	} finally {
		process.env.PATH = PATH;
	}
	expect(readdirSync(directory).sort()).toEqual(["vmlinuz", "xz"]);
});
