/*
 * The PVH start info (xen/include/public/arch-x86/hvm/start_info.h, version 1). EBX points to it at the PVH entry
 * point. The start info, its module list and its memory map share one page:
 *
 *     +0x000 hvm_start_info   +0x100 hvm_modlist_entry (the initrd)   +0x200 hvm_memmap_table_entry ...
 */
import type { GuestMemory } from "../base/guest-memory.ts";
import { struct } from "../base/struct.ts";
import { CMDLINE_ADDRESS, START_INFO_ADDRESS } from "./addresses.ts";
import type { E820Entry } from "./e820.ts";
import type { LoadedInitrd } from "./loaded.ts";

const hvm_start_info = struct("hvm_start_info", {
	magic: "u32",
	version: "u32",
	flags: "u32",
	nr_modules: "u32",
	modlist_paddr: "u64",
	cmdline_paddr: "u64",
	rsdp_paddr: "u64",
	memmap_paddr: "u64",
	memmap_entries: "u32",
	reserved: "u32",
});
const hvm_modlist_entry = struct("hvm_modlist_entry", {
	paddr: "u64",
	size: "u64",
	cmdline_paddr: "u64",
	reserved: "u64",
});
const hvm_memmap_table_entry = struct("hvm_memmap_table_entry", {
	addr: "u64",
	size: "u64",
	type: "u32",
	reserved: "u32",
});

const XEN_HVM_START_MAGIC_VALUE = 0x336ec578;
const VERSION_WITH_MEMMAP = 1;
const MODLIST = 0x100;
const MEMMAP = 0x200;

/** Writes the start info. `rsdp` is 0 when the guest has no ACPI. */
export function writeStartInfo(
	memory: GuestMemory,
	initrd: LoadedInitrd | undefined,
	e820: readonly E820Entry[],
	rsdp: number,
): void {
	const at = START_INFO_ADDRESS;
	memory.write(at, new Uint8Array(MEMMAP));
	memory.setU32(at + hvm_start_info.magic, XEN_HVM_START_MAGIC_VALUE);
	memory.setU32(at + hvm_start_info.version, VERSION_WITH_MEMMAP);
	memory.setU64(at + hvm_start_info.cmdline_paddr, CMDLINE_ADDRESS);
	memory.setU64(at + hvm_start_info.rsdp_paddr, rsdp);
	if (initrd !== undefined) {
		memory.setU32(at + hvm_start_info.nr_modules, 1);
		memory.setU64(at + hvm_start_info.modlist_paddr, at + MODLIST);
		memory.setU64(at + MODLIST + hvm_modlist_entry.paddr, initrd.start);
		memory.setU64(at + MODLIST + hvm_modlist_entry.size, initrd.sizeBytes);
	}
	memory.setU64(at + hvm_start_info.memmap_paddr, at + MEMMAP);
	memory.setU32(at + hvm_start_info.memmap_entries, e820.length);
	for (const [i, { start, sizeBytes, type }] of e820.entries()) {
		const entry = at + MEMMAP + i * hvm_memmap_table_entry.sizeof;
		memory.setU64(entry + hvm_memmap_table_entry.addr, start);
		memory.setU64(entry + hvm_memmap_table_entry.size, sizeBytes);
		memory.setU32(entry + hvm_memmap_table_entry.type, type);
		memory.setU32(entry + hvm_memmap_table_entry.reserved, 0);
	}
}
