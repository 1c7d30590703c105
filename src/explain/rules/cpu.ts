/*
 * Rules about the vCPUs: ends that no guest wants, and where vCPUs are that do nothing any more.
 */
import type { StoppedVcpu } from "../../base/stopped-state.ts";
import { counted, type Rule } from "../finding.ts";

/** `jmp` to itself, in 16 to 64 bits; pause or hlt in front of it change nothing. */
const SPINS = /^(?:f390)?eb(?:fe|fc)/;
const HLT = "f4";
/** A guest that did nothing for so long stands still. */
const SILENT_NS = 1e9;

export const tripleFault: Rule = ({ story }) => {
	if (story.ended?.reason !== "triple-fault") return undefined;
	const { detail = "" } = story.ended;
	const early = !story.phases.some(({ phase }) => phase !== "entry") && story.consoleBytes === 0;
	const exits = [...story.exits.keys()].filter((reason) => reason !== "KVM_EXIT_SHUTDOWN").length;
	const because = [detail, `${counted(story.consoleBytes, "byte")} on the console before it`].filter(
		(line) => line !== "",
	);
	if (early && exits === 0) {
		const what =
			"The guest faulted at once: what was started is no code for the mode that it was entered in, or not the kernel's entry.";
		const hint = "Check the kernel: readelf -h -l -n KERNEL (its PVH note names the entry in 32-bit mode)";
		return { cause: "wrong-entry", what, because, hint };
	}
	const what =
		"The guest met an exception that it has no handler for, and another one while it looked for one (triple fault).";
	return { cause: "triple-fault", what, because };
};

export const kvmError: Rule = ({ story }) => {
	if (story.ended?.reason !== "kvm-error") return undefined;
	const { detail = "" } = story.ended;
	const emulation = /emulation failed/.test(detail);
	const what = emulation
		? "The guest executes what KVM cannot emulate: it has left its code, or uses an unusual instruction on a device."
		: "KVM cannot run the guest any further: the state of a vCPU is not one that a processor can have.";
	return { cause: emulation ? "emulation-failed" : "invalid-state", what, because: [detail] };
};

export const resetByGuest: Rule = ({ story }) => {
	if (story.ended?.reason !== "reset") return undefined;
	const reboot = story.line(/reboot: .*/);
	const keyboard = [...story.places.values()].find(({ device, writes }) => device === "i8042" && writes > 0);
	const because = [
		...(reboot === undefined ? [] : [reboot[0]]),
		...(keyboard === undefined ? [] : ["the last write to the keyboard controller was its reset command"]),
	];
	const what = "The guest has asked for a reset, and this machine ends then.";
	return { cause: "guest-reset", what, because };
};

/** All vCPUs stand still for good. */
export const halted: Rule = ({ story, name }) => {
	const vcpus = (story.state?.vcpus ?? []).filter(({ mp }) => mp !== "uninitialized" && mp !== "init received");
	const dead = vcpus.filter((vcpu) => !vcpu.interruptsEnabled && isHalted(vcpu));
	if (ended(story.ended?.reason) || dead.length === 0 || dead.length < vcpus.length) return undefined;
	const because = dead.map((vcpu) => `vCPU ${vcpu.vcpu} is in hlt at ${name(vcpu.rip)}, with interrupts off`);
	const what = `${dead.length === 1 ? "The vCPU waits" : "All vCPUs wait"} in hlt with interrupts off, which nothing but an NMI ends.`;
	return { cause: "halted-for-good", what, because, hint: "Use sti before hlt" };
};

/** KVM keeps a vCPU in hlt as halted, and one that was kicked out of it may stand behind the instruction. */
function isHalted({ mp, code }: StoppedVcpu): boolean {
	return mp === "halted" || code?.startsWith(HLT) === true;
}

/** vCPUs that run in a loop without a device, while the machine is silent. */
export const spins: Rule = ({ story, name }) => {
	const vcpus = story.state?.vcpus ?? [];
	const silent = story.lastT - story.lastGuestT >= SILENT_NS || story.exitCount === 0;
	const tight = vcpus.filter(({ code }) => code !== undefined && SPINS.test(code));
	const running = vcpus.filter(({ mp, code }) => mp === "runnable" && !code?.startsWith(HLT));
	/* Whether a program computes for a second, or spins, one cannot see from without. */
	const found = tight.length > 0 || story.look !== undefined ? tight : running;
	if (ended(story.ended?.reason) || found.length === 0 || (!silent && tight.length === 0)) return undefined;
	const because = found.map((vcpu) => {
		const loop = tight.includes(vcpu) ? "a jump to itself" : "still executing";
		return `vCPU ${vcpu.vcpu} is at ${name(vcpu.rip)}, ${loop}, interrupts ${vcpu.interruptsEnabled ? "on" : "off"}`;
	});
	const all = found.length === vcpus.length;
	const what = `${all && vcpus.length > 1 ? "All vCPUs run" : `vCPU ${found.map(({ vcpu }) => vcpu).join(", ")} runs`} in a loop and reaches no device: it waits for something in memory, such as a lock or another vCPU.`;
	return { cause: "deadlocked-vcpu", what, because };
};

/** The guest has ended itself, or the machine did. */
function ended(reason: string | undefined): boolean {
	return reason !== undefined && reason !== "stopped";
}

/** Nothing at all came from the guest. */
export const nothingHappened: Rule = ({ story }) => {
	/* A machine may be idle while it is looked at. */
	if (ended(story.ended?.reason) || story.look !== undefined) return undefined;
	if (story.consoleBytes > 0 || story.exitCount > 0) return undefined;
	const what = "The guest has not reached any device, and has printed nothing.";
	return { cause: "silent", what, because: [`no exit in ${(story.lastT / 1e9).toFixed(1)} s`] };
};
