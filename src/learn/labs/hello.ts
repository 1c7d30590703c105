/*
 * The check of lab 1: the program is a script. What it does with /dev/kvm was recorded; here it is read in the order in
 * which a machine comes to be.
 */
import { KVM_EXIT_HLT } from "../../kvm/constants.ts";
import type { Ending } from "../attempt.ts";
import { describeExit } from "../exit-names.ts";
import type { Lab } from "../lab.ts";
import type { Recording } from "../recording.ts";
import { CheckEnded, count, hex, quote, type Report } from "../report.ts";

const TEXT = "hello";

export const helloLab: Lab = {
	number: 1,
	name: "hello",
	title: "hello from /dev/kvm",
	needsKvm: true,
	async check(attempt) {
		const { report, recording } = attempt;
		let memory = "";
		/* RAM is looked at when the vCPU halts: the program may give it back afterwards. */
		recording.onExit = () => {
			memory = textOf(recording.ram());
		};
		const ending = await attempt.run();
		/* A program that has failed before that has done nothing to look at. */
		if (!recording.called("open /dev/kvm")) attempt.unwrap(ending, "The program");
		try {
			checkMachine(report, recording);
			checkStart(report, recording);
		} catch (error) {
			/* What the program threw may be why. */
			if (error instanceof CheckEnded) attempt.unwrap(ending, "The program");
			throw error;
		}
		checkRun(report, recording, ending);
		report.expect(
			memory.includes(TEXT),
			`the guest has written ${quote(TEXT)} into its RAM`,
			`the guest has not written ${quote(TEXT)} into its RAM`,
			"Copy all bytes of CODE: they end with 0xf4, hlt",
		);
		report.expect(
			recording.printed === `${TEXT}\n`,
			`the program has printed ${quote(`${TEXT}\n`)}`,
			`the program has printed ${quote(recording.printed)}, ${quote(`${TEXT}\n`)} was expected`,
			"Read the text out of the RAM after KVM_EXIT_HLT, and print it by console.log",
		);
		attempt.unwrap(ending, "The program");
		const open = recording.open;
		report.expect(
			open.length === 0,
			"everything was closed",
			`not closed: ${open.join(", ")}`,
			"Close in the opposite order: run loop, vCPU, VM, RAM, /dev/kvm",
		);
	},
};

function checkMachine(report: Report, recording: Recording): void {
	report.must(
		recording.called("open /dev/kvm"),
		"/dev/kvm was opened",
		"/dev/kvm was not opened",
		"Begin with const kvm = Kvm.open()",
	);
	report.must(
		recording.called("KVM_CREATE_VM"),
		"KVM_CREATE_VM was called",
		"KVM_CREATE_VM was not called: there is no machine",
		"Call kvm.createVm()",
	);
	const slots = [...recording.slots.values()];
	report.must(
		slots.length > 0,
		`KVM_SET_USER_MEMORY_REGION was called: ${slots.map((slot) => `${count(slot.sizeBytes, "byte")} of RAM at ${hex(slot.gpa)}`).join(", ")}`,
		"KVM_SET_USER_MEMORY_REGION was not called: the guest has no RAM",
		"Map RAM by GuestRam.map, and give it to the VM by vm.setUserMemoryRegion",
	);
	report.must(
		recording.called("KVM_CREATE_VCPU"),
		"KVM_CREATE_VCPU was called",
		"KVM_CREATE_VCPU was not called: the machine has no processor",
		"Call vm.createVcpu(0)",
	);
}

/** Where the vCPU begins, and what is there. */
function checkStart(report: Report, recording: Recording): void {
	const start = recording.starts[0];
	if (start === undefined) {
		report.fail("KVM_RUN was not called: the vCPU never ran", "Call runLoop.start(0, vcpu.fd, vm.vcpuMmapSize)");
	}
	const base = start.sregs.cs.base;
	const at = Number(base + start.regs.rip);
	const where = `${hex(at)} (CS base ${hex(base)} + RIP ${hex(start.regs.rip)})`;
	const found = [...start.ram].find(([gpa, bytes]) => at >= gpa && at < gpa + bytes.length);
	if (found === undefined) {
		const hint =
			base === 0n
				? "Set rip to the address of your code, and give RAM to the VM at that address"
				: "Set cs.base and cs.selector to 0: at reset an x86 begins just below 4 GiB";
		report.fail(`the vCPU begins at ${where}, where no RAM is`, hint);
	}
	const code = found[1].subarray(at - found[0]);
	report.must(
		code.some((byte) => byte !== 0),
		`the vCPU begins at ${where}, where code is`,
		`the vCPU begins at ${where}, where the RAM holds only zeroes`,
		"Copy CODE into the RAM before KVM_RUN: new Uint8Array(region.buffer).set(CODE)",
	);
	report.must(
		!textOf(start.ram).includes(TEXT),
		"the RAM holds no text before the guest runs",
		`the RAM holds ${quote(TEXT)} before the guest runs: this program wrote it, not the guest`,
		"Leave the writing to CODE",
	);
}

function checkRun(report: Report, recording: Recording, ending: Ending<void>): void {
	const halted = recording.exits.some(({ reason }) => reason === KVM_EXIT_HLT);
	if (halted) {
		report.right("KVM_RUN came back with KVM_EXIT_HLT");
		return;
	}
	const last = recording.exits.at(-1);
	if (last !== undefined) {
		report.fail(
			`the guest did not halt: its last exit was ${describeExit(last)}`,
			"Compare the bytes in RAM with CODE, and RIP with the address of the first one",
		);
	}
	report.fail(
		ending.kind === "value"
			? "the program has ended before the guest: no exit was seen"
			: "the guest ran, and no exit was seen",
		"Wait for the exit: await a promise that onExit resolves",
	);
}

const textOf = (ram: ReadonlyMap<number, Uint8Array>): string =>
	[...ram.values()].map((bytes) => Buffer.from(bytes).toString("latin1")).join("");
