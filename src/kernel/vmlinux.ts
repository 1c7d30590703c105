/*
 * The ELF vmlinux inside a bzImage (Linux's x86 boot protocol, Documentation/arch/x86/boot.rst). A machine that starts
 * from the ELF file skips the guest's own decompressor, which costs seconds under emulation:
 *
 *     0        0x1f1: setup header         (setup_sects + 1) * 512       + payload_offset      + payload_length
 *     | boot sector ... real-mode set-up ... | 32/64-bit decompressor ... | compressed vmlinux | ...
 */
import { mkdtemp, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { decompress as unzstd } from "fzstd";
import { errnoName, explain, HostError, ImageError } from "../base/errors.ts";
import { run } from "../host/command.ts";

/** Offsets in the setup header (boot.rst, "The Real-Mode Kernel Header"). */
const SETUP_SECTS = 0x1f1;
const HEADER = 0x202;
const VERSION = 0x206;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const HEADER_END = 0x264;
/** payload_offset exists since protocol 2.08. */
const VERSION_WITH_PAYLOAD = 0x208;
const HDRS = 0x53726448;

const ELF_MAGIC = Buffer.from("\x7fELF", "latin1");
const EM_X86_64 = 62;

/** What compresses the payload, told by its first bytes. lz4 is the legacy format that the kernel's build writes. */
const FORMATS = [
	{ name: "gzip", magic: Buffer.from([0x1f, 0x8b]) },
	{ name: "xz", magic: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]) },
	{ name: "zstd", magic: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]) },
	{ name: "lz4", magic: Buffer.from([0x02, 0x21, 0x4c, 0x18]) },
	{ name: "bzip2", magic: Buffer.from("BZh") },
	{ name: "lzma", magic: Buffer.from([0x5d, 0x00, 0x00]) },
	{ name: "lzo", magic: Buffer.from([0x89, 0x4c, 0x5a, 0x4f]) },
] as const;

function startsWith(data: Uint8Array, magic: Uint8Array): boolean {
	return data.length >= magic.length && magic.every((byte, i) => data[i] === byte);
}

/** The compressed payload of a bzImage. @throws ImageError when `image` is none, or is cut short */
export function bzImagePayload(image: Buffer, name: string): Buffer {
	if (image.length < HEADER_END || image.readUInt32LE(HEADER) !== HDRS) {
		throw new ImageError("ERR_KERNEL_FORMAT", `Cannot read kernel ${name}: no bzImage header was found`);
	}
	const version = image.readUInt16LE(VERSION);
	if (version < VERSION_WITH_PAYLOAD) {
		const found = `${version >> 8}.${String(version & 0xff).padStart(2, "0")}`;
		throw new ImageError("ERR_KERNEL_FORMAT", `Cannot read kernel ${name}: boot protocol ${found} is older than 2.08`);
	}
	const start = ((image[SETUP_SECTS] || 4) + 1) * 512 + image.readUInt32LE(PAYLOAD_OFFSET);
	const length = image.readUInt32LE(PAYLOAD_LENGTH);
	if (length < 8 || start + length > image.length) {
		throw new ImageError(
			"ERR_KERNEL_TRUNCATED",
			`Cannot read kernel ${name}: ${image.length} bytes were found, its header speaks of ${start + length}`,
		);
	}
	return image.subarray(start, start + length);
}

/** Decompresses with a tool of the host, which reads and writes files in `directory`. */
async function decompressWith(tool: string, suffix: string, data: Buffer, directory: string): Promise<Buffer> {
	const packed = join(directory, `payload${suffix}`);
	const plain = join(directory, "payload");
	await writeFile(packed, data);
	const args = tool === "lz4" ? ["-d", "-q", "-f", packed, plain] : ["-d", "-q", "-f", packed];
	await run(tool, args);
	return await readFile(plain);
}

async function decompress(payload: Buffer, name: string, directory: string): Promise<Uint8Array> {
	const format = FORMATS.find(({ magic }) => startsWith(payload, magic))?.name;
	/* All formats but gzip, which has it already, are followed by the uncompressed size in 4 bytes. */
	const data = payload.subarray(0, -4);
	try {
		if (format === "gzip") return await promisify(gunzip)(payload);
		if (format === "zstd") return unzstd(data);
		if (format === "xz") return await decompressWith("xz", ".xz", data, directory);
		if (format === "lz4") return await decompressWith("lz4", ".lz4", data, directory);
	} catch (error) {
		const code = errnoName(error);
		if (code === "ERR_TOOL_MISSING") throw error;
		if (code !== undefined && code in constants.errno) {
			const message = `Cannot decompress kernel ${name} in ${directory}: ${explain(error)}`;
			throw new HostError("ERR_CACHE", message, { cause: error });
		}
		throw new ImageError("ERR_KERNEL_CORRUPT", `Cannot decompress kernel ${name} (${format}): ${explain(error)}`, {
			cause: error,
		});
	}
	throw new ImageError(
		"ERR_KERNEL_FORMAT",
		`Cannot decompress kernel ${name}: its payload is ${format ?? `unknown (${payload.toString("hex", 0, 4)} ...)`}`,
		{ hint: "gzip, xz, zstd and lz4 are understood" },
	);
}

/**
 * Writes the vmlinux of a kernel to a file, atomically. A kernel that is an ELF file already is copied.
 *
 * @param kernel path of a bzImage ("vmlinuz") or an ELF vmlinux
 * @param vmlinux path to write; its directory must exist
 * @throws ImageError ERR_KERNEL_FORMAT, ERR_KERNEL_TRUNCATED, ERR_KERNEL_CORRUPT; HostError ERR_CACHE
 */
export async function extractVmlinux(kernel: string, vmlinux: string): Promise<void> {
	let image: Buffer;
	try {
		image = await readFile(kernel);
	} catch (error) {
		throw new ImageError("ERR_KERNEL_OPEN", `Cannot read kernel ${kernel}: ${explain(error)}`, { cause: error });
	}
	const directory = await mkdtemp(join(dirname(vmlinux), ".tsvmm-"));
	try {
		const elf = startsWith(image, ELF_MAGIC)
			? image
			: await decompress(bzImagePayload(image, kernel), kernel, directory);
		checkElf(elf, kernel);
		const file = await open(join(directory, "vmlinux"), "w");
		try {
			await file.writeFile(elf);
		} finally {
			await file.close();
		}
		await rename(join(directory, "vmlinux"), vmlinux);
	} finally {
		await rm(directory, { recursive: true, force: true });
	}
}

function checkElf(elf: Uint8Array, name: string): void {
	if (elf.length < 64 || !startsWith(elf, ELF_MAGIC)) {
		throw new ImageError("ERR_KERNEL_FORMAT", `Cannot use kernel ${name}: its payload is no ELF file`);
	}
	const machine = elf[18]! | (elf[19]! << 8);
	if (elf[4] !== 2 || machine !== EM_X86_64) {
		throw new ImageError("ERR_KERNEL_ARCH", `Cannot use kernel ${name}: it is for ELF machine ${machine}, not x86-64`);
	}
}
