/*
 * Extracts the ELF vmlinux from a bzImage (Linux's x86 boot protocol, Documentation/arch/x86/boot.rst). A machine that
 * starts from the ELF file skips the guest's decompressor, which takes seconds under emulation:
 *
 *     0        0x1f1: setup header         (setup_sects + 1) * 512       + payload_offset      + payload_length
 *     | boot sector ... real-mode set-up ... | 32/64-bit decompressor ... | compressed vmlinux | ...
 */
import { mkdtemp, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { explain, ImageError } from "../base/errors.ts";
import { bzImagePayload } from "../boot/bzimage.ts";
import { decompress } from "../host/decompress.ts";

const ELF_MAGIC = Buffer.from("\x7fELF", "latin1");
const EM_X86_64 = 62;

function isElf(data: Uint8Array): boolean {
	return ELF_MAGIC.equals(data.subarray(0, ELF_MAGIC.length));
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
