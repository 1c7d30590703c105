/* Lab 1 and wrong attempts at it. Needs /dev/kvm. */
import { labSuite } from "./attempts.ts";

labSuite(1, [
	{
		what: "a bracket that is missing",
		edits: [["const kvm = Kvm.open();", "const kvm = Kvm.open(;"]],
		finding: /^The program does not load: line 25:/,
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
		hint: "TEXT_ADDRESS - CODE_ADDRESS",
	},
	{
		what: "a VM that is not closed",
		edits: [["vm.close();", ""]],
		finding: "not closed: the VM",
	},
	{
		what: "an ioctl with a wrong argument",
		edits: [["slot: 0, gpa: CODE_ADDRESS", "slot: 0, gpa: 0x1001"]],
		finding: /^The program throws in line \d+: Cannot KVM_SET_USER_MEMORY_REGION: EINVAL/,
		hint: "multiples of 4096",
	},
	{
		what: "a name that is declared twice",
		edits: [["const vm = kvm.createVm();", "const vm = kvm.createVm(); const kvm = vm;"]],
		finding: "The program does not load: Identifier 'kvm' has already been declared",
	},
	{
		what: "a run loop that is not told the size of its page",
		edits: [["runLoop.start(0, vcpu.fd, vm.vcpuMmapSize)", "runLoop.start(0, vcpu.fd, Number(undefined))"]],
		finding: /^The program throws in line \d+: Cannot start vCPU 0/,
		hint: "Call runLoop.start(0, vcpu.fd, vm.vcpuMmapSize)",
	},
	{
		what: "a register that gets a number",
		edits: [["BigInt(CODE_ADDRESS)", "(CODE_ADDRESS as never)"]],
		finding: /^The program throws in line \d+: Cannot .* BigInt/,
		hint: "Convert one of them: 2n",
	},
	{
		what: "code at an index behind the buffer",
		edits: [["bytes.set(CODE);", "bytes.set(CODE, CODE_ADDRESS);"]],
		finding: "offset is out of bounds",
		hint: "Count from the beginning of the buffer",
	},
	{
		what: "an exit's reason with its bytes in the wrong order",
		edits: [
			["run.getUint32(kvm_run.exit_reason, true)", "run.getUint32(kvm_run.exit_reason)"],
			["console.log(`unexp", "void (`unexp"],
		],
		finding: 'the program has printed "", "hello\\n" was expected',
		hint: "5 is KVM_EXIT_HLT",
	},
	{
		what: "a run loop that is closed when all else was",
		edits: [
			["\t\t\t\tresolve(reason);\n", ""],
			["setImmediate(() => {", "resolve(reason);\n\t\t\tsetImmediate(() => {"],
		],
		finding: "closed after the program's last line: the run loop",
		hint: "Call resolve after runLoop.close()",
	},
	{
		what: "a promise that nobody resolves",
		edits: [["\t\t\t\tresolve(reason);\n", ""]],
		finding: "The program has nothing left to do, but a promise of it never settles",
		hint: "call resolve",
	},
	{
		what: "a loop that never ends",
		edits: [["vcpu.close();", "for (;;);"]],
		finding: "The program keeps its thread busy for 8 seconds. The last that was seen: KVM_EXIT_HLT.",
		hangs: true,
	},
]);
