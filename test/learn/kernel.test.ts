/* Lab 5 and wrong attempts at it. */
import { labSuite } from "./attempts.ts";

labSuite(5, [
	{
		what: "segments at their virtual addresses",
		edits: [
			[
				"const address = Number(file.readBigUInt64LE(at + 24));",
				"const address = Number(file.readBigUInt64LE(at + 16) & 0xfffffn);",
			],
		],
		finding: "ELF: at 0x100040 there is cccccccc..., not the kernel's code",
		hint: "to p_paddr, not to p_vaddr",
	},
	{
		what: "one segment only",
		edits: [["i < count; i++", "i < count - 1; i++"]],
		finding: "ELF: at 0x110000 there is",
	},
	{
		what: "a .bss of rubbish",
		edits: [["ram.fill(0, address, address + memoryBytes);", ""]],
		finding: "the others hold 0xcc, not 0",
	},
	{
		what: "every program header loaded",
		edits: [["if (file.readUInt32LE(at) !== PT_LOAD) continue;", ""]],
		finding: "ELF: a program header of type PT_NOTE (4) was copied to RAM",
	},
	{
		what: "boot parameters that are not cleared",
		edits: [["ram.fill(0, BOOT_PARAMS, BOOT_PARAMS + 4096);", ""]],
		finding: "the boot parameters have rubbish in their first bytes",
	},
	{
		what: "a command line without an end",
		edits: [["\\0`), CMDLINE)", "`), CMDLINE)"]],
		finding: "ELF: cmd_line_ptr (0x228) is 0x20000, where",
	},
	{
		what: "a memory map beyond the RAM",
		edits: [["ram.length - KERNEL]", "ram.length]"]],
		finding: "usable: 0x0 to 0xa0000, 0x100000 to 0x500000; RAM up to 0x400000",
	},
	{
		what: "setup sectors without the first",
		edits: [["512 * (1 + setupSectors)", "512 * setupSectors"]],
		finding: "bzImage: at 0x100000 there is 5a5a5a5a...",
		hint: "after 1 + setup_sects sectors",
	},
	{
		what: "the 32-bit entry",
		edits: [["return KERNEL + 0x200;", "return KERNEL;"]],
		finding: "bzImage: the entry is 0x100000; the 64-bit entry is 0x200 bytes into the kernel",
	},
	{
		what: "a setup header that is not copied",
		edits: [["ram.set(file.subarray(0x1f1, headerEnd), BOOT_PARAMS + 0x1f1);", "void headerEnd;"]],
		finding: "the boot parameters at 0x7000 do not have the file's setup header",
	},
	{
		what: "a file that is cut off",
		edits: [["if (offset + fileBytes > file.length)", "if (offset > file.length)"]],
		finding: "an ELF file that ends too early is loaded as if it were a kernel",
	},
	{
		what: "a segment that fails only by accident",
		edits: [["|| address + memoryBytes > ram.length", ""]],
		finding: /an ELF segment beyond the RAM/,
	},
]);
