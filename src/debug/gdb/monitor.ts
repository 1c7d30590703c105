/*
 * The commands behind GDB's `monitor`: what GDB has no packets for.
 */
import { MSR_LSTAR } from "../../kvm/control-registers.ts";
import type { KvmSegment } from "../../kvm/struct-view.ts";
import type { MachineDebugger } from "../debugger.ts";
import type { PageWalk } from "../page-walk.ts";

/** The session that asks. */
export interface MonitorState {
	readonly vcpu: number;
	physical: boolean;
}

const HELP = `info registers     control registers, LSTAR and segments of this thread's vCPU
info vcpus         each vCPU with its state and instruction pointer
info devices       virtio devices with their addresses
info memory        where RAM is
walk ADDRESS       how a virtual address is translated, level by level
physical on|off    take addresses of memory as guest-physical ones
help               this list
`;
const MP_STATES = ["runs", "waits for INIT", "waits for SIPI", "halted", "got a SIPI"];
const SEGMENTS = ["cs", "ss", "ds", "es", "fs", "gs", "tr", "ldt"] as const;
const CONTROL = ["cr0", "cr2", "cr3", "cr4", "cr8", "efer"] as const;

/** Runs a command. @returns what GDB prints */
export function monitor(debug: MachineDebugger, state: MonitorState, line: string): string {
	const [command = "help", argument = ""] = line.trim().split(/\s+/);
	switch (command === "info" ? `info ${argument}` : command) {
		case "info registers":
			return registers(debug, state.vcpu);
		case "info vcpus":
			return vcpus(debug);
		case "info devices":
			return devices(debug);
		case "info memory":
			return memory(debug);
		case "walk":
			return walk(debug, state.vcpu, argument);
		case "physical":
			if (argument === "on" || argument === "off") state.physical = argument === "on";
			return `physical ${state.physical ? "on" : "off"}\n`;
		case "help":
		case "":
			return HELP;
		default:
			return `Cannot run "${line.trim().slice(0, 80)}": no such command\n${HELP}`;
	}
}

function registers(debug: MachineDebugger, vcpu: number): string {
	const sregs = debug.sregs(vcpu);
	const segment = (name: string, { selector, base, limit, dpl, l, db }: KvmSegment) =>
		`${name.padEnd(6)}${hex(selector, 4)}  base ${hex(base, 16)}  limit ${hex(limit, 8)}  dpl ${dpl}  ${l ? "64" : db ? "32" : "16"} bits\n`;
	const table = (name: "gdt" | "idt") =>
		`${name.padEnd(6)}      base ${hex(sregs[name].base, 16)}  limit ${hex(sregs[name].limit, 4)}\n`;
	return [
		...SEGMENTS.map((name) => segment(name, sregs[name])),
		table("gdt"),
		table("idt"),
		...CONTROL.map((name) => `${name.padEnd(6)}${hex(sregs[name], 16)}\n`),
		`lstar ${hex(debug.vcpu(vcpu).getMsrs([MSR_LSTAR]).get(MSR_LSTAR) ?? 0n, 16)}\n`,
	].join("");
}

function vcpus(debug: MachineDebugger): string {
	return Array.from({ length: debug.cpus }, (_, i) => {
		const state = MP_STATES[debug.vcpu(i).getMpState()] ?? "is in a state that has no name";
		return `vCPU ${i}  rip ${hex(debug.regs(i).rip, 16)}  ${state}\n`;
	}).join("");
}

function devices({ machine }: MachineDebugger): string {
	const rows = machine.deviceIds.map(
		(id) => `${hex(machine.deviceAddress(id), 8)}  ${id}  ${machine.device(id).name}\n`,
	);
	return rows.join("") || "no virtio devices\n";
}

function memory({ machine }: MachineDebugger): string {
	return machine.memory.windows.map(({ gpa, end }) => `${hex(gpa, 12)} - ${hex(end - 1, 12)}\n`).join("");
}

function walk(debug: MachineDebugger, vcpu: number, argument: string): string {
	if (!/^(0x)?[0-9a-f]{1,16}$/i.test(argument))
		return 'Cannot walk: give an address in hexadecimal, as in "walk 0x1000"\n';
	return describeWalk(debug.walk(vcpu, BigInt(`0x${argument.replace(/^0x/i, "")}`)));
}

/** A walk in lines, one for each level. */
export function describeWalk(found: PageWalk): string {
	const flags = (one: { writable: boolean; user: boolean; executable: boolean }) =>
		`${one.writable ? "w" : "-"}${one.executable ? "x" : "-"}${one.user ? "u" : "-"}`;
	const levels = found.levels.map(
		(level) =>
			`${level.table.padEnd(5)}[${String(level.index).padStart(3)}] at ${hex(level.tableGpa, 12)}: ${hex(level.entry, 16)} ${level.present ? flags(level) : "not present"}\n`,
	);
	const page = `a page of ${found.pageBytes / 1024} KiB, ${flags(found)}`;
	const end = found.gpa === undefined ? `not mapped: ${found.fault}\n` : `gpa ${hex(found.gpa, 12)}, ${page}\n`;
	return `paging: ${found.mode}\n${levels.join("")}${end}`;
}

function hex(value: number | bigint, digits: number): string {
	return value.toString(16).padStart(digits, "0");
}
