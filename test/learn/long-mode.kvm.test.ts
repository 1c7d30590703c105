/* Lab 4 and wrong attempts at it. Needs /dev/kvm. */
import { labSuite } from "./attempts.ts";

labSuite(4, [
	{
		what: "long mode without PAE",
		edits: [["sregs.cr4 |= 1n << 5n;", ""]],
		finding: /CR4 is 0x0: CR4\.PAE \(bit 5\) is not set|throws in line \d+: .*KVM_SET_SREGS/,
	},
	{
		what: "paging that is off",
		edits: [["sregs.cr0 |= (1n << 0n) | (1n << 31n);", "sregs.cr0 |= 1n;\n\tsregs.efer = 0n;"]],
		finding: /EFER is 0x0: EFER\.LME \(bit 8\) is not set|throws in line \d+: Cannot KVM_SET_SREGS/,
	},
	{
		what: "a code segment of 32 bits",
		edits: [
			["cs.l = 1;", "cs.l = 0;"],
			["cs.db = 0;", "cs.db = 1;"],
		],
		finding: /CS has l 0, db 1|throws/,
	},
	{
		what: "no upper half",
		edits: [["setEntry(PML4, 511, PDPT_HIGH | PRESENT_WRITABLE);", ""]],
		finding:
			"virtual 0xffffffff80000000 is not mapped: entry 511 of the PML4 is not present (CR3 = 0x1000, PML4[511] = 0x0)",
	},
	{
		what: "an upper half at the wrong entry",
		edits: [["setEntry(PDPT_HIGH, 510,", "setEntry(PDPT_HIGH, 511,"]],
		finding: "entry 510 of the PDPT is not present",
	},
	{
		what: "large pages without their flag",
		edits: [["i * LARGE_PAGE_BYTES + LARGE + PRESENT", "i * LARGE_PAGE_BYTES + PRESENT"]],
		finding: /virtual 0x0 is (not mapped|physical 0x)/,
		hint: "a page of 2 MiB has 0x80",
	},
	{
		what: "pages that cannot be written",
		edits: [["const PRESENT_WRITABLE = 0x3;", "const PRESENT_WRITABLE = 0x1;"]],
		finding: "virtual 0x0 is read-only",
	},
	{
		what: "half of the GiB",
		edits: [["i < 512", "i < 256"]],
		finding: "virtual 0x3fffffff is not mapped: entry 511 of the PD is not present",
	},
	{
		what: "tables over the guest's code",
		edits: [["const PD = 0x4000;", "const PD = 0x200000;"]],
		finding: "the guest's code at 0x200000 was overwritten",
	},
	{
		what: "another entry",
		edits: [["regs.rip = entry;", "regs.rip = 0x200000n;"]],
		finding: "RIP is 0x200000",
	},
]);
