/*
 * The check of lab 1: the program is a script. What it does with /dev/kvm was recorded; here it is read in the order in
 * which a machine comes to be.
 */
import { KVM_EXIT_HLT } from "../../kvm/constants.ts";
import type { Ending } from "../attempt.ts";
import { describeExit } from "../exit-names.ts";
import type { Lab } from "../lab.ts";
import type { Recording } from "../recording.ts";
import { count, hex, quote, type Report } from "../report.ts";

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
		const blame = () => {
			if (ending.kind === "threw") report.blame(attempt.failureOf(ending, "The program"));
		};
		/* What comes before the vCPU's start is missing because of the error. Once it has started, it may be the reverse. */
		if (recording.starts.length === 0) blame();
		checkMachine(report, recording);
		checkStart(report, recording);
		blame();
		checkRun(report, recording, ending);
		if (ending.kind === "waits") {
			report.blame({
				...attempt.failureOf(ending, "The program"),
				hint: "End the wait when the guest has stopped: call resolve, and await goes on",
			});
		}
		report.expect(
			memory.includes(TEXT),
			`the guest has written ${quote(TEXT)} into its RAM`,
			`the guest has not written ${quote(TEXT)} into its RAM`,
			"Copy all bytes of CODE: they end with 0xf4, hlt",
		);
		report.expect(
			/* Other lines are of a student who looks for a mistake. */
			recording.printed.split("\n").slice(0, -1).includes(TEXT),
			`the program has printed ${quote(`${TEXT}\n`)}`,
			`the program has printed ${quote(recording.printed)}, ${quote(`${TEXT}\n`)} was expected`,
			recording.printed === "" ? SILENT_HINT : PRINTED_HINT,
		);
		attempt.unwrap(ending, "The program");
		await checkClosed(report, recording);
	},
};

const SILENT_HINT =
	"Print the five bytes by console.log. If you do so after KVM_EXIT_HLT only, print also the exit's reason that you have read: 5 is KVM_EXIT_HLT";
const PRINTED_HINT =
	"Count from the beginning of the buffer, where CODE is: the byte at TEXT_ADDRESS is number TEXT_ADDRESS - CODE_ADDRESS";

async function checkClosed(report: Report, recording: Recording): Promise<void> {
	const { open } = recording;
	await new Promise((resolve) => setImmediate(resolve));
	const late = open.filter((what) => !recording.open.includes(what));
	if (late.length > 0) {
		report.fail(
			`closed after the program's last line: ${late.join(", ")}`,
			"Call resolve after runLoop.close(), in the same setImmediate: all else is to be closed after the run loop",
		);
	}
	report.expect(
		open.length === 0,
		"everything was closed",
		`not closed: ${open.join(", ")}`,
		"Close in the opposite order: run loop, vCPU, VM, RAM, /dev/kvm",
	);
}

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
	if (ending.kind === "value") {
		report.fail(
			"the program has ended before the guest: no exit was seen",
			"Wait for the exit: await a promise that onExit resolves",
		);
	}
	report.fail(
		"the guest ran, and no exit was seen",
		"Compare the bytes in RAM with CODE: without hlt (0xf4) at its end the guest runs on for ever",
	);
}

const textOf = (ram: ReadonlyMap<number, Uint8Array>): string =>
	[...ram.values()].map((bytes) => Buffer.from(bytes).toString("latin1")).join("");
