/*
 * Extracts the ELF vmlinux from a bzImage (Linux's x86 boot protocol, Documentation/arch/x86/boot.rst). A machine that
 * starts from the ELF file skips the guest's decompressor, which takes seconds under emulation:
 *
 *     0        0x1f1: setup header         (setup_sects + 1) * 512       + payload_offset      + payload_length
 *     | boot sector ... real-mode set-up ... | 32/64-bit decompressor ... | compressed vmlinux | ...
 */
import { mkdtemp, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { compressionOf } from "../base/compression.ts";
import { errnoName, explain, HostError, ImageError } from "../base/errors.ts";
import { HDRS, protocolVersion, setup_header, setupSize } from "../boot/bzimage.ts";
import { run } from "../host/command.ts";

/** payload_offset exists since protocol 2.08. */
const VERSION_WITH_PAYLOAD = 0x208;

const ELF_MAGIC = Buffer.from("\x7fELF", "latin1");
const EM_X86_64 = 62;

function isElf(data: Uint8Array): boolean {
	return ELF_MAGIC.equals(data.subarray(0, ELF_MAGIC.length));
}

/** The compressed payload of a bzImage. @throws ImageError when `image` is none, or is cut short */
export function bzImagePayload(image: Buffer, name: string): Buffer {
	if (image.length < setup_header.end || image.readUInt32LE(setup_header.header) !== HDRS) {
		throw new ImageError("ERR_KERNEL_FORMAT", `Cannot read kernel ${name}: no bzImage header was found`);
	}
	const version = image.readUInt16LE(setup_header.version);
	if (version < VERSION_WITH_PAYLOAD) {
		const found = protocolVersion(version);
		throw new ImageError("ERR_KERNEL_FORMAT", `Cannot read kernel ${name}: boot protocol ${found} is older than 2.08`);
	}
	const start = setupSize(image) + image.readUInt32LE(setup_header.payload_offset);
	const length = image.readUInt32LE(setup_header.payload_length);
	if (length < 8 || start + length > image.length) {
		throw new ImageError(
			"ERR_KERNEL_TRUNCATED",
			`Cannot read kernel ${name}: ${image.length} bytes were found, its header speaks of ${start + length}`,
		);
	}
	return image.subarray(start, start + length);
}

/** Decompresses by a tool of the host, which reads and writes files in `directory`. */
async function decompressWith(tool: string, suffix: string, data: Buffer, directory: string): Promise<Buffer> {
	const packed = join(directory, `payload${suffix}`);
	const plain = join(directory, "payload");
	await writeFile(packed, data);
	/* Only lz4 needs the name of its output. */
	await run(tool, ["-d", "-q", "-f", packed, ...(tool === "lz4" ? [plain] : [])]);
	return await readFile(plain);
}

async function decompress(payload: Buffer, name: string, directory: string): Promise<Uint8Array> {
	const format = compressionOf(payload);
	/* The uncompressed size follows in 4 bytes. gzip has it as part of its own format. */
	const data = payload.subarray(0, -4);
	try {
		if (format === "gzip") return await promisify(gunzip)(payload);
		if (format === "zstd") return await decompressWith("zstd", ".zst", data, directory);
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
		{ hint: "Pack it with gzip, xz, zstd or lz4" },
	);
}

/**
 * Writes the vmlinux of a kernel to a file, atomically. A kernel that is an ELF file already is copied.
 *
 * @param kernel path of a bzImage ("vmlinuz") or an ELF vmlinux
 * @param vmlinux path to write; its directory must exist
 * @throws ImageError ERR_KERNEL_FORMAT, ERR_KERNEL_TRUNCATED, ERR_KERNEL_CORRUPT; HostError ERR_CACHE,
 *   ERR_TOOL_MISSING
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
		const elf = isElf(image) ? image : await decompress(bzImagePayload(image, kernel), kernel, directory);
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
	if (elf.length < 64 || !isElf(elf)) {
		throw new ImageError("ERR_KERNEL_FORMAT", `Cannot use kernel ${name}: its payload is no ELF file`);
	}
	const machine = elf[18]! | (elf[19]! << 8);
	if (elf[4] !== 2 || machine !== EM_X86_64) {
		throw new ImageError("ERR_KERNEL_ARCH", `Cannot use kernel ${name}: it is for ELF machine ${machine}, not x86-64`);
	}
}
