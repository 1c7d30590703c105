/*
 * Loads a kernel and an initrd into guest RAM. The first bytes of the file choose the loader: elf.ts for an ELF
 * vmlinux, bzimage.ts for a bzImage. For any other file the error says what it is. All fields of a header are checked
 * before use: a hostile image gives an ImageError, but never a crash or a write outside guest RAM.
 *
 * RAM must be fresh (all zero): the part of a segment that is not in the file is not cleared.
 */
import { ImageError } from "../base/errors.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import { isBzImage, loadBzImage } from "./bzimage.ts";
import { identify } from "./detected-format.ts";
import { isElfKernel, loadElf } from "./elf.ts";
import { ImageFile } from "./image-file.ts";
import type { LoadedInitrd, LoadedKernel } from "./loaded.ts";

const PAGE = 4096;
const KERNEL = { what: "kernel", open: "ERR_KERNEL_OPEN", truncated: "ERR_KERNEL_TRUNCATED" };
const INITRD = { what: "initrd", open: "ERR_INITRD_OPEN", truncated: "ERR_INITRD_TRUNCATED" };
/* The first 4 KiB of a file have its ELF header or its whole setup header, and every magic number. */
const HEAD_BYTES = 4096;

/** Opens a kernel for loadKernel. @throws ImageError ERR_KERNEL_OPEN */
export function openKernel(path: string): ImageFile {
	return new ImageFile(path, KERNEL);
}

/** Opens an initrd for loadInitrd. @throws ImageError ERR_INITRD_OPEN */
export function openInitrd(path: string): ImageFile {
	return new ImageFile(path, INITRD);
}

/**
 * Loads a kernel. The caller closes the file.
 *
 * @param lowRamEnd first byte after the RAM below 4 GiB
 * @throws ImageError when it is not a kernel for x86-64, is damaged, or does not fit
 */
export async function loadKernel(memory: GuestMemory, file: ImageFile, lowRamEnd: number): Promise<LoadedKernel> {
	const head = file.peek(0, HEAD_BYTES);
	if (isBzImage(head)) return await loadBzImage(memory, file, head, lowRamEnd);
	if (isElfKernel(head)) return await loadElf(memory, file, head, lowRamEnd);
	const { path } = file;
	const format = identify(head);
	if (format.otherArchitecture === true) {
		throw new ImageError("ERR_KERNEL_ARCH", `Cannot load kernel ${path}: found ${format.found}, need x86-64`);
	}
	throw new ImageError(
		"ERR_KERNEL_FORMAT",
		`Cannot load kernel ${path}: neither an ELF vmlinux nor a bzImage: found ${format.found}`,
		{ hint: format.hint },
	);
}

/**
 * Loads an initrd as high in low RAM as the kernel allows, page-aligned and above the kernel. The caller closes the
 * file.
 *
 * @throws ImageError ERR_INITRD_OPEN, ERR_INITRD_TOO_BIG or ERR_INITRD_TRUNCATED
 */
export async function loadInitrd(
	memory: GuestMemory,
	file: ImageFile,
	kernel: LoadedKernel,
	lowRamEnd: number,
): Promise<LoadedInitrd> {
	const { path, sizeBytes } = file;
	if (sizeBytes === 0) {
		throw new ImageError("ERR_INITRD_OPEN", `Cannot load initrd ${path}: it is an empty file`);
	}
	const ceiling = Math.min(lowRamEnd, kernel.initrdMax + 1);
	const start = Math.floor((ceiling - sizeBytes) / PAGE) * PAGE;
	if (start < kernel.end) {
		const room = Math.max(0, ceiling - kernel.end);
		throw new ImageError(
			"ERR_INITRD_TOO_BIG",
			`Cannot load initrd ${path}: it needs ${sizeBytes} bytes, the guest has ${room} bytes above its kernel`,
			{ hint: "Give the guest more memory" },
		);
	}
	await file.load(memory, start, { position: 0, length: sizeBytes, part: "the initrd" });
	return { start, sizeBytes };
}
