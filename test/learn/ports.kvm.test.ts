/* Lab 2 and wrong attempts at it. Needs /dev/kvm. */
import { labSuite } from "./attempts.ts";

labSuite(2, [
	{
		what: "no function of that name",
		edits: [["export async function run(", "export async function start("]],
		finding: "The program exports no function run: it exports start",
	},
	{
		what: "values that are always bytes",
		edits: [["bytes.readUIntLE(at, size)", "bytes[at]!"]],
		finding: "the guest wrote 0x1234 (2 bytes) to port 0x510; ports.out was called 1 time, first with 0x34 (2 bytes)",
	},
	{
		what: "the first of several values alone",
		edits: [["at < count * size", "at < size"]],
		finding: /^rep insb: the guest read 5 bytes from port 0x60, "world" was to come, .*; ports\.in was called 1 time/,
		hint: "Look at kvm_run.io.count: here the exits had 5 values",
	},
	{
		what: "a write that is taken for a read",
		edits: [["if (isOut)", "if (!isOut)"]],
		finding: "the guest wrote 0x41 (1 byte) to port 0x3f8, and ports.in was called",
		hint: "Read the direction",
	},
	{
		what: "a halt that passes for an error",
		edits: [["if (reason === KVM_EXIT_HLT) return end(resolve);", ""]],
		finding: /^run, for a guest that says out dx, al, throws in line \d+: unexpected exit 5/,
		hint: "Resolve at KVM_EXIT_HLT",
	},
	{
		what: "a run that does not wait for the guest",
		edits: [["await runVcpu", "void runVcpu"]],
		finding: "run, for a guest that says out dx, al, resolved before an exit was seen",
		hint: "Wait for the guest",
	},
	{
		what: "a read that is taken for a write",
		edits: [["if (isOut)", "if (isOut || true)"]],
		finding: "in al, dx: the guest read port 0x60, and ports.in was not called",
		hint: "Look at the exit's direction",
	},
	{
		what: "an answer that is not put into kvm_run",
		edits: [["bytes.writeUIntLE(ports.in(port, size), at, size)", "void ports.in(port, size)"]],
		finding: /ports\.in returned 0x9c, and the guest got 0x/,
		hint: "data_offset",
	},
	{
		what: "an answer of one byte to a read of two",
		edits: [["bytes.writeUIntLE(ports.in(port, size), at, size)", "bytes[at] = ports.in(port, size)"]],
		finding: /ports\.in returned 0xbeef, and the guest got 0x/,
	},
	{
		what: "a guest that is not resumed",
		edits: [["portAccess(run, ports);\n\t\t\t\treturn true;", "portAccess(run, ports);\n\t\t\t\treturn false;"]],
		finding:
			/^run, for a guest that says out dx, al, .*; its last exit was KVM_EXIT_IO: a write of 1 byte at port 0x3f8/,
		hint: "Return true",
		hangs: true,
	},
	{
		what: "an unknown exit that nobody answers",
		edits: [["return end(() => reject(unexpected(reason)))", "return false"]],
		finding: "run does not end at an exit that it does not know (KVM_EXIT_MMIO: a write of 1 byte at 0x8000",
		hangs: true,
	},
	{
		what: "an unknown exit that passes for a halt",
		edits: [["end(() => reject(unexpected(reason)))", "end(resolve)"]],
		finding: "as if the guest had halted",
	},
	{
		what: "machines that stay open",
		edits: [["\t\tvm.close();\n", ""]],
		finding: "not closed after the last run: the VM",
	},
	{
		what: "a loop in the exit that never ends",
		edits: [["portAccess(run, ports);\n\t\t\t\treturn true;", "for (;;);"]],
		finding: "The program keeps its thread busy for 8 seconds. The last that was seen: KVM_EXIT_IO.",
		hangs: true,
	},
]);
