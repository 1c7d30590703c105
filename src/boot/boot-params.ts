/*
 * The zero page (struct boot_params, Documentation/arch/x86/zero-page.rst). RSI points to it in the 64-bit Linux boot
 * protocol. A bzImage's setup header is copied into it. For a vmlinux we fill in the few fields that matter.
 */
import type { GuestMemory } from "../base/guest-memory.ts";
import { CMDLINE_ADDRESS, ZERO_PAGE_ADDRESS } from "./addresses.ts";
import { HDRS, setup_header } from "./bzimage.ts";
import type { E820Entry } from "./e820.ts";
import type { LoadedInitrd, LoadedKernel } from "./loaded.ts";

/* Fields of struct boot_params outside its setup header. */
const boot_params = Object.freeze({
	acpi_rsdp_addr: 0x70,
	e820_entries: 0x1e8,
	setup_sects: 0x1f1,
	e820_table: 0x2d0,
	sizeof: 4096,
});
const BOOT_E820_ENTRY_BYTES = 20;
/* "Undefined": a loader without an assigned number (boot.rst, type_of_loader). */
const TYPE_UNDEFINED = 0xff;
const LOADED_HIGH = 1;
const BOOT_FLAG = 0xaa55;
const VERSION = 0x020f;

/** What the zero page tells the kernel. */
export interface BootParams {
	readonly kernel: LoadedKernel;
	readonly initrd: LoadedInitrd | undefined;
	readonly e820: readonly E820Entry[];
	/** Address of the ACPI tables' RSDP; 0 when the guest has no ACPI. */
	readonly rsdp: number;
}

/** Writes the zero page. */
export function writeBootParams(memory: GuestMemory, { kernel, initrd, e820, rsdp }: BootParams): void {
	const page = Buffer.alloc(boot_params.sizeof);
	if (kernel.setupHeader !== undefined) {
		page.set(kernel.setupHeader, boot_params.setup_sects);
	} else {
		page.writeUInt16LE(BOOT_FLAG, setup_header.boot_flag);
		page.writeUInt32LE(HDRS, setup_header.header);
		page.writeUInt16LE(VERSION, setup_header.version);
		page.writeUInt32LE(kernel.cmdlineBytes, setup_header.cmdline_size);
		page.writeUInt32LE(0x7fffffff, setup_header.initrd_addr_max);
		page[setup_header.loadflags] = LOADED_HIGH;
	}
	page[setup_header.type_of_loader] = TYPE_UNDEFINED;
	page.writeUInt32LE(CMDLINE_ADDRESS, setup_header.cmd_line_ptr);
	page.writeUInt32LE(kernel.start, setup_header.code32_start);
	if (initrd !== undefined) {
		page.writeUInt32LE(initrd.start, setup_header.ramdisk_image);
		page.writeUInt32LE(initrd.sizeBytes, setup_header.ramdisk_size);
	}
	page.writeBigUInt64LE(BigInt(rsdp), boot_params.acpi_rsdp_addr);
	page[boot_params.e820_entries] = e820.length;
	let at = boot_params.e820_table;
	for (const { start, sizeBytes, type } of e820) {
		page.writeBigUInt64LE(BigInt(start), at);
		page.writeBigUInt64LE(BigInt(sizeBytes), at + 8);
		page.writeUInt32LE(type, at + 16);
		at += BOOT_E820_ENTRY_BYTES;
	}
	memory.write(ZERO_PAGE_ADDRESS, page);
}
