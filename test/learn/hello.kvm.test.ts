/* Lab 1 and wrong attempts at it. Needs /dev/kvm. */
import { labSuite } from "./attempts.ts";

labSuite(1, [
	{
		what: "a bracket that is missing",
		edits: [["const kvm = Kvm.open();", "const kvm = Kvm.open(;"]],
		finding: /^The program throws line 25:/,
	},
	{
		what: "a name that does not exist",
		edits: [["const kvm = Kvm.open();", "const kvm = KVM.open();"]],
		finding: "The program throws in line 25: KVM is not defined",
	},
	{
		what: "a machine without RAM",
		edits: [
			["vm.setUserMemoryRegion({ slot: 0, gpa: CODE_ADDRESS, hva: region.hva, sizeBytes: region.sizeBytes });", ""],
		],
		finding: "KVM_SET_USER_MEMORY_REGION was not called: the guest has no RAM",
	},
	{
		what: "code that was not copied",
		edits: [["bytes.set(CODE);", ""]],
		finding: "the vCPU begins at 0x1000 (CS base 0x0 + RIP 0x1000), where the RAM holds only zeroes",
		hint: "Copy CODE into the RAM",
	},
	{
		what: "a code segment as at reset",
		edits: [["sregs.cs.base = 0n;", ""]],
		finding: "the vCPU begins at 0xffff1000 (CS base 0xffff0000 + RIP 0x1000), where no RAM is",
		hint: "Set cs.base and cs.selector to 0",
	},
	{
		what: "an instruction pointer beside the code",
		edits: [["regs.rip = BigInt(CODE_ADDRESS)", "regs.rip = 0x2000n"]],
		finding: "where no RAM is",
		hint: "Set rip to the address of your code",
	},
	{
		what: "a guest without hlt",
		edits: [["0xf4,             /* hlt */", "0xeb, 0xfe,"]],
		finding: "the guest ran, and no exit was seen",
		hangs: true,
	},
	{
		what: "a program that does not wait for the guest",
		edits: [["const reason = await new Promise", "const reason = KVM_EXIT_HLT as number; void new Promise"]],
		finding: /the program has ended before the guest|not written "hello"|printed/,
	},
	{
		what: "a text that this program writes into RAM",
		edits: [["bytes.set(CODE);", 'bytes.set(CODE); bytes.set(Buffer.from("hello"), 0x800);']],
		finding: "this program wrote it, not the guest",
	},
	{
		what: "a text of the wrong place",
		edits: [["TEXT_ADDRESS - CODE_ADDRESS, ", "0, "]],
		finding: /the program has printed .*, "hello\\n" was expected/,
	},
	{
		what: "a VM that is not closed",
		edits: [["vm.close();", ""]],
		finding: "not closed: the VM",
	},
	{
		what: "an ioctl with a wrong argument",
		edits: [["slot: 0, gpa: CODE_ADDRESS", "slot: 0, gpa: 0x1001"]],
		finding: "KVM_SET_USER_MEMORY_REGION was not called",
	},
]);
