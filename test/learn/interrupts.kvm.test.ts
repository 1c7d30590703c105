/* Lab 8 and wrong attempts at it. Needs /dev/kvm. */
import { labSuite } from "./attempts.ts";

labSuite(8, [
	{
		what: "a machine without interrupt controllers",
		edits: [["\tvm.createIrqchip();\n", ""]],
		finding: "KVM_CREATE_IRQCHIP was not called",
	},
	{
		what: "no ioeventfd",
		edits: [["vm.ioeventfd({ fd: this.#bell.fd, address: PORT, size: 2, pio: true });", ""]],
		finding: "KVM_IOEVENTFD was not called: each ring will stop the vCPU",
	},
	{
		what: "an ioeventfd of another size",
		edits: [["size: 2", "size: 4"]],
		finding: "KVM_IOEVENTFD was called for port 0x510, 4 bytes; port 0x510, 2 bytes were expected",
	},
	{
		what: "an ioeventfd in memory",
		edits: [[", pio: true", ""]],
		finding: "KVM_IOEVENTFD was called for memory 0x510",
	},
	{
		what: "an irqfd of another line",
		edits: [["const GSI = 5;", "const GSI = 6;"]],
		finding: "KVM_IRQFD was called for GSI 6; 5 was expected",
	},
	{
		what: "an eventfd that nobody watches",
		edits: [["this.#bell.watch(ring);", "void ring;"]],
		finding: "the guest sleeps for ever: it rang, your bell was called 0 times of 3",
		hint: "Watch the eventfd",
		hangs: true,
	},
	{
		what: "an interrupt that is never raised",
		edits: [["this.#line.signal();", ""]],
		finding: "your bell was called 1 time of 3, and no interrupt woke it",
		hangs: true,
	},
	{
		what: "an eventfd that stays open",
		edits: [["\t\tthis.#line.close();\n", ""]],
		finding: "after close, 1 file descriptor of it is still open",
	},
]);
