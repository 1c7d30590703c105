/*
 * The check of lab 4: the program exports `enterLongMode`. First its registers and page tables are read, address by
 * address, because a processor says of a mistake in them only that it stopped. Then a 64-bit guest runs on them.
 */
import { GuestMemory } from "../../base/guest-memory.ts";
import { walkPages } from "../../debug/page-walk.ts";
import type { KvmSregs } from "../../kvm/struct-view.ts";
import type { Vcpu } from "../../kvm/vcpu.ts";
import { runBareMachine } from "../bare-machine.ts";
import { LONG_MODE_GUEST } from "../guests.ts";
import type { Lab } from "../lab.ts";
import { hex, type Report } from "../report.ts";

type EnterLongMode = (ram: Uint8Array, vcpu: Vcpu, entry: bigint) => void;

const RAM_BYTES = 4 << 20;
const CODE = 0x20_0000;
const HIGH = 0xffff_ffff_8000_0000n;
const ENTRY = HIGH + BigInt(CODE);
/** Virtual addresses, and where they are to lead. */
const MAPPED: readonly (readonly [bigint, number])[] = [
	[0n, 0],
	[BigInt(CODE), CODE],
	[0x3fff_ffffn, 0x3fff_ffff],
	[HIGH, 0],
	[ENTRY, CODE],
	[HIGH + 0x3fff_ffffn, 0x3fff_ffff],
];
const OWN = 0x510;

export const longModeLab: Lab = {
	number: 4,
	name: "long-mode",
	title: "long mode and page tables",
	needsKvm: true,
	async check(attempt) {
		const enter = await attempt.exported<EnterLongMode>("enterLongMode", "function");
		const { report } = attempt;
		const values: number[] = [];
		const prepare = (ram: Uint8Array, vcpu: Vcpu) => {
			ram.set(LONG_MODE_GUEST, CODE);
			enter(ram, vcpu, ENTRY);
			const sregs = vcpu.getSregs();
			checkRegisters(report, sregs, vcpu);
			checkTables(report, sregs, ram);
			const intact = Buffer.compare(ram.subarray(CODE, CODE + LONG_MODE_GUEST.length), LONG_MODE_GUEST) === 0;
			report.must(
				intact,
				"the guest's code is untouched",
				`the guest's code at ${hex(CODE)} was overwritten`,
				"Put your tables below it, from 0x1000",
			);
		};
		const ports = { out: (_port: number, _size: number, value: number) => void values.push(value), in: () => 0 };
		const end = await attempt.call("enterLongMode", () =>
			runBareMachine({ ramBytes: RAM_BYTES, prepare, mostExits: 10 }, ports),
		);
		report.must(
			end === "halted" && values.length === 3,
			"a 64-bit guest runs on it and halts",
			`the guest ended by ${end}, after ${values.length} of 3 values on port ${hex(OWN)}`,
			"A fault without an interrupt table is a triple fault: look at the tables once more",
		);
		report.expect(
			values[0] === 0x11223344,
			"its registers have 64 bits",
			`a 64-bit shift gave ${hex(values[0]!)}: the processor is not in 64-bit mode`,
		);
		report.expect(
			values[1] === 0xffff_ffff,
			"it runs in the upper half of its addresses",
			`the upper half of RIP is ${hex(values[1]!)}, 0xffffffff was expected`,
		);
		report.expect(
			values[2] === 0x7788b848,
			"it reads the same bytes at their physical address",
			`at virtual ${hex(CODE)} it read ${hex(values[2]!)}; its own code, 0x7788b848, was expected`,
		);
	},
};

/** Bits that make long mode, with their names. */
const BITS = [
	["cr4", 5n, "CR4.PAE (bit 5): entries of 8 bytes"],
	["efer", 8n, "EFER.LME (bit 8): long mode is enabled"],
	["efer", 10n, "EFER.LMA (bit 10): long mode is active"],
	["cr0", 0n, "CR0.PE (bit 0): protected mode"],
	["cr0", 31n, "CR0.PG (bit 31): paging is on"],
] as const;

function checkRegisters(report: Report, sregs: KvmSregs, vcpu: Vcpu): void {
	for (const [register, bit, text] of BITS) {
		report.must(
			((sregs[register] >> bit) & 1n) === 1n,
			text,
			`${register.toUpperCase()} is ${hex(sregs[register])}: ${text.replace(/:.*/, "")} is not set`,
			"Read the registers by getSregs, set the bit, write them by setSregs",
		);
	}
	const { cs } = sregs;
	report.must(
		cs.l === 1 && cs.db === 0 && cs.present === 1 && cs.s === 1 && (cs.type & 8) === 8,
		"CS is a 64-bit code segment: L is 1, DB is 0",
		`CS has l ${cs.l}, db ${cs.db}, present ${cs.present}, s ${cs.s}, type ${cs.type}; l 1, db 0, present 1, s 1 and type 11 were expected`,
		"Long mode with L clear runs 32-bit code",
	);
	const regs = vcpu.getRegs();
	report.must(
		regs.rip === ENTRY && (regs.rflags & 2n) === 2n,
		`RIP is the entry, ${hex(ENTRY)}`,
		`RIP is ${hex(regs.rip)} and RFLAGS ${hex(regs.rflags)}; ${hex(ENTRY)} and 0x2 were expected`,
		"setRegs, with rip = entry and rflags = 2n",
	);
}

function checkTables(report: Report, sregs: KvmSregs, ram: Uint8Array): void {
	const buffer = ram.buffer as ArrayBuffer;
	const memory = new GuestMemory([{ gpa: 0, sizeBytes: RAM_BYTES, hva: 0, buffer }]);
	for (const [address, expected] of MAPPED) {
		const walk = walkPages(memory, sregs, address);
		const path = walk.levels.map(({ table, index, entry }) => `${table}[${index}] = ${hex(entry)}`).join(", ");
		report.must(
			walk.gpa === expected && walk.writable,
			`virtual ${hex(address)} is physical ${hex(expected)}`,
			walk.gpa === undefined
				? `virtual ${hex(address)} is not mapped: ${walk.fault} (CR3 = ${hex(sregs.cr3)}${path === "" ? "" : `, ${path}`})`
				: walk.gpa !== expected
					? `virtual ${hex(address)} is physical ${hex(walk.gpa)}, ${hex(expected)} was expected (${path})`
					: `virtual ${hex(address)} is read-only (${path})`,
			"An entry is the address of the next table or page, plus 1 (present), plus 2 (writable); a page of 2 MiB has 0x80 as well, in its PD",
		);
	}
}
