/*
 * Loads a bzImage: setup sectors, then the protected-mode kernel, whose address is in the setup header. We enter it at
 * its 64-bit entry point, 0x200 bytes in, so its 16-bit code never runs. It unpacks itself within `init_size` bytes.
 * Fields are named as in the Linux x86 boot protocol (Documentation/arch/x86/boot.rst). An offset is the same in the
 * file and in the zero page.
 */
import { ImageError } from "../base/errors.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import { u64 } from "../base/u64.ts";
import { HIGH_MEMORY_START } from "./addresses.ts";
import { type ImageFile, tooBig } from "./image-file.ts";
import type { LoadedKernel } from "./loaded.ts";

/** struct setup_header, by its offsets in the file and in the zero page. */
export const setup_header = Object.freeze({
	setup_sects: 0x1f1,
	syssize: 0x1f4,
	boot_flag: 0x1fe,
	jump: 0x200,
	header: 0x202,
	version: 0x206,
	kernel_version: 0x20e,
	type_of_loader: 0x210,
	loadflags: 0x211,
	code32_start: 0x214,
	ramdisk_image: 0x218,
	ramdisk_size: 0x21c,
	heap_end_ptr: 0x224,
	cmd_line_ptr: 0x228,
	initrd_addr_max: 0x22c,
	kernel_alignment: 0x230,
	relocatable_kernel: 0x234,
	xloadflags: 0x236,
	cmdline_size: 0x238,
	payload_offset: 0x248,
	payload_length: 0x24c,
	setup_data: 0x250,
	pref_address: 0x258,
	init_size: 0x260,
	end: 0x268,
});

/** "HdrS" */
export const HDRS = 0x53726448;
const BOOT_FLAG = 0xaa55;
const MIN_VERSION = 0x020c;
/** payload_offset exists since protocol 2.08. */
const VERSION_WITH_PAYLOAD = 0x208;
const LOADED_HIGH = 1;
const XLF_KERNEL_64 = 1;
const ENTRY_64 = 0x200;
const PAGE = 4096;
/* A longer header would overwrite the e820 table of the zero page (0x2d0). */
const MAX_HEADER_END = 0x290;

/** True when the file starts with setup sectors. */
export function isBzImage(head: Buffer): boolean {
	return (
		head.length >= setup_header.version &&
		head.readUInt16LE(setup_header.boot_flag) === BOOT_FLAG &&
		head.readUInt32LE(setup_header.header) === HDRS
	);
}

/**
 * Bytes before the protected-mode part: the boot sector and the setup sectors. 0 sectors mean 4, for very old kernels.
 */
export function setupSize(head: Buffer): number {
	return ((head[setup_header.setup_sects]! || 4) + 1) * 512;
}

/** "2.08" for a version of the boot protocol in the header. */
export function protocolVersion(version: number): string {
	return `${version >> 8}.${String(version & 0xff).padStart(2, "0")}`;
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

/** Loads the bzImage in `file`, whose first bytes are `head`. @throws ImageError */
export async function loadBzImage(
	memory: GuestMemory,
	file: ImageFile,
	head: Buffer,
	lowRamEnd: number,
): Promise<LoadedKernel> {
	file.read(0, setup_header.end, "the setup header");
	const version = head.readUInt16LE(setup_header.version);
	if (version < MIN_VERSION) {
		throw refused(file, `its boot protocol is ${protocolVersion(version)}, need 2.12 or newer (Linux 3.8)`);
	}
	if ((head[setup_header.loadflags]! & LOADED_HIGH) === 0) throw refused(file, "it is a zImage, not a bzImage");
	if ((head.readUInt16LE(setup_header.xloadflags) & XLF_KERNEL_64) === 0) {
		throw new ImageError(
			"ERR_KERNEL_ARCH",
			`Cannot load kernel ${file.path}: found a bzImage without 64-bit entry point (a 32-bit kernel?), need x86-64`,
		);
	}
	const setupBytes = setupSize(head);
	const codeBytes = head.readUInt32LE(setup_header.syssize) * 16;
	if (codeBytes <= ENTRY_64) throw refused(file, `its protected-mode part has ${codeBytes} bytes`);
	const preferred = setup_header.pref_address;
	const start = u64(head.readUInt32LE(preferred), head.readUInt32LE(preferred + 4));
	if (start < HIGH_MEMORY_START || start % PAGE !== 0) {
		throw refused(file, `it wants to be loaded at 0x${start.toString(16)}`);
	}
	const end = start + Math.ceil(Math.max(head.readUInt32LE(setup_header.init_size), codeBytes) / PAGE) * PAGE;
	if (end > lowRamEnd) throw tooBig(file, end, lowRamEnd);
	await file.load(memory, start, { position: setupBytes, length: codeBytes, part: "the kernel" });

	const headerEnd = Math.min(MAX_HEADER_END, setup_header.header + head[setup_header.jump + 1]!);
	if (headerEnd < setup_header.end) throw refused(file, `its setup header ends at 0x${headerEnd.toString(16)}`);
	const text = versionText(file, head.readUInt16LE(setup_header.kernel_version), setupBytes);
	return {
		format: "bzImage",
		protocol: "linux64",
		entry: start + ENTRY_64,
		start,
		end,
		cmdlineBytes: head.readUInt32LE(setup_header.cmdline_size),
		initrdMax: head.readUInt32LE(setup_header.initrd_addr_max),
		setupHeader: Uint8Array.from(head.subarray(setup_header.setup_sects, headerEnd)),
		...(text === undefined ? {} : { version: text }),
	};
}

/** The version string in the setup sectors: "6.1.0-... (builder) #1 SMP ...". */
function versionText(file: ImageFile, pointer: number, setupBytes: number): string | undefined {
	const at = pointer + 0x200;
	if (pointer === 0 || at >= setupBytes) return undefined;
	const bytes = file.peek(at, Math.min(256, setupBytes - at));
	const end = bytes.indexOf(0);
	const text = bytes.toString("latin1", 0, end < 0 ? bytes.length : end);
	return /^[ -~]+$/.test(text) ? text : undefined;
}

function refused(file: ImageFile, found: string): ImageError {
	return new ImageError("ERR_KERNEL_FORMAT", `Cannot load kernel ${file.path}: not a bootable bzImage: ${found}`);
}
