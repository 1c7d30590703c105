/*
 * The check of lab 2: the program exports `run`, which gets guests that access ports in every way, and one that does
 * something else.
 */
import { KVM_EXIT_HLT, KVM_EXIT_IO } from "../../kvm/constants.ts";
import type { Attempt } from "../attempt.ts";
import type { Ports } from "../bare-machine.ts";
import { describeExit } from "../exit-names.ts";
import * as guests from "../guests.ts";
import type { Lab } from "../lab.ts";
import type { Exit } from "../recording.ts";
import { count, hex, quote } from "../report.ts";

type Run = (code: Uint8Array, ports: Ports) => Promise<unknown>;

const SERIAL = 0x3f8;
const OWN = 0x510;
const KEYBOARD = 0x60;
const NO_RAM = 0x8000;

export const portsLab: Lab = {
	number: 2,
	name: "ports",
	title: "exits and port I/O",
	needsKvm: true,
	async check(attempt) {
		const run = await attempt.exported<Run>("run", "function");
		await checkOut(attempt, run);
		await checkIn(attempt, run);
		await checkStrings(attempt, run);
		await checkOtherExit(attempt, run);
		const { open } = attempt.recording;
		attempt.report.expect(
			open.length === 0,
			"each run has closed what it opened",
			`not closed after the last run: ${[...new Set(open)].join(", ")}`,
			"Close it in a finally block: a run may also end by an error",
		);
	},
};

/** What a guest did, as the program passed it on. */
class Log implements Ports {
	readonly writes: { port: number; size: number; value: number }[] = [];
	readonly reads: { port: number; size: number }[] = [];
	readonly #answer: (index: number) => number;

	/** @param answer to the read of this index */
	constructor(answer: (index: number) => number = () => 0) {
		this.#answer = answer;
	}
	/** The values that were written, as characters. */
	get text(): string {
		return String.fromCharCode(...this.writes.map(({ value }) => value));
	}
	out(port: number, size: number, value: number): void {
		this.writes.push({ port, size, value });
	}
	in(port: number, size: number): number {
		this.reads.push({ port, size });
		return this.#answer(this.reads.length - 1);
	}
}

const describe = ({ port, size, value }: { port: number; size: number; value: number }): string =>
	`${hex(value)} (${count(size, "byte")}) to port ${hex(port)}`;

/** Lets the program run a guest to its end. @returns the guest's exits that were accesses of ports */
async function runGuest(attempt: Attempt, what: string, work: () => Promise<unknown>): Promise<Exit[]> {
	const { report, recording } = attempt;
	const before = recording.exits.length;
	const ending = await attempt.settle(work);
	const exits = recording.exits.slice(before);
	const last = exits.at(-1);
	const subject = `run, for a guest that says ${what},`;
	if (ending.kind === "threw") {
		const { text, hint } = attempt.failureOf(ending, subject);
		const isHalt = last?.reason === KVM_EXIT_HLT;
		report.fail(text, hint ?? (isHalt ? "Resolve at KVM_EXIT_HLT: the guest has come to its end" : undefined));
	}
	if (ending.kind === "waits") {
		report.fail(
			`${subject} ${ending.text}; ${last === undefined ? "it has seen no exit" : `its last exit was ${describeExit(last)}`}`,
			last?.reason === KVM_EXIT_IO
				? "Return true from onExit after KVM_EXIT_IO: with false the vCPU stays in the exit"
				: "Settle the promise at each exit that is not KVM_EXIT_IO: resolve at KVM_EXIT_HLT, reject at any other",
		);
	}
	if (last === undefined) {
		report.fail(
			`${subject} resolved before an exit was seen`,
			"Wait for the guest: await runVcpu, whose promise settles at the last exit",
		);
	}
	return exits.filter(({ port }) => port !== undefined);
}

async function checkOut(attempt: Attempt, run: Run): Promise<void> {
	const { report } = attempt;
	for (const [what, code, port, size, value] of [
		["out dx, al", guests.outb(SERIAL, 0x41), SERIAL, 1, 0x41],
		["out dx, ax", [...guests.movDx(OWN), ...guests.movAx(0x1234), ...guests.OUT_AX], OWN, 2, 0x1234],
	] as const) {
		const log = new Log();
		await runGuest(attempt, what, () => run(Uint8Array.from([...code, ...guests.HLT]), log));
		const expected = describe({ port, size, value });
		if (log.writes.length === 0 && log.reads.length > 0) {
			report.fail(
				`the guest wrote ${expected}, and ports.in was called`,
				"Read the direction at kvm_run.io + kvm_run_io.direction: KVM_EXIT_IO_OUT is a write",
			);
		}
		if (log.writes.length === 0) {
			report.fail(
				`the guest wrote ${expected}, and ports.out was not called`,
				"Call ports.out for KVM_EXIT_IO with direction KVM_EXIT_IO_OUT",
			);
		}
		const found = describe(log.writes[0]!);
		report.must(
			log.writes.length === 1 && found === expected,
			`${what}: ports.out got ${expected}`,
			`${what}: the guest wrote ${expected}; ports.out was called ${count(log.writes.length, "time")}, first with ${found}`,
			"Read port and size out of kvm_run.io; the value is at data_offset, little-endian, of so many bytes as size says",
		);
	}
}

async function checkIn(attempt: Attempt, run: Run): Promise<void> {
	const { report } = attempt;
	for (const [what, read, write, size, value] of [
		["in al, dx", guests.IN_AL, guests.OUT_AL, 1, 0x9c],
		["in ax, dx", guests.IN_AX, guests.OUT_AX, 2, 0xbeef],
	] as const) {
		const log = new Log(() => value);
		const code = [...guests.movDx(KEYBOARD), ...read, ...guests.movDx(SERIAL), ...write, ...guests.HLT];
		await runGuest(attempt, what, () => run(Uint8Array.from(code), log));
		const asked = log.reads[0];
		if (asked === undefined) {
			attempt.report.fail(
				`${what}: the guest read port ${hex(KEYBOARD)}, and ports.in was not called`,
				"Look at the exit's direction: KVM_EXIT_IO_IN is a read",
			);
		}
		report.must(
			asked.port === KEYBOARD && asked.size === size && log.reads.length === 1,
			`${what}: ports.in was asked for port ${hex(KEYBOARD)}, ${count(size, "byte")}`,
			`${what}: ports.in was asked for port ${hex(asked.port)}, ${count(asked.size, "byte")}, ${count(log.reads.length, "time")}; once for port ${hex(KEYBOARD)}, ${count(size, "byte")}, was expected`,
		);
		const got = log.writes[0]?.value;
		report.must(
			got === value,
			`${what}: the guest got ${hex(value)}, what ports.in returned`,
			`${what}: ports.in returned ${hex(value)}, and the guest got ${got === undefined ? "nothing" : hex(got)}`,
			"Write the answer into kvm_run at data_offset, with all its bytes, before the vCPU runs on",
		);
	}
}

/** Whole strings: KVM makes an exit of each byte that goes out, and one exit of many that come in. */
async function checkStrings(attempt: Attempt, run: Run): Promise<void> {
	const { report } = attempt;
	const counts = (exits: readonly Exit[]) => exits.map((exit) => exit.count).join(" + ");
	const advice = (exits: readonly Exit[]) =>
		`Look at kvm_run.io.count: here the exits had ${counts(exits)} values, one after the other at data_offset`;
	const text = "hello";
	const log = new Log();
	const written = await runGuest(attempt, "rep outsb", () => run(guests.repOutsb(SERIAL, text), log));
	const got = log.text;
	report.must(
		got === text,
		`rep outsb: the ${text.length} bytes of ${quote(text)} came in order`,
		`rep outsb: the guest wrote ${text.length} bytes to port ${hex(SERIAL)}, ${quote(text)}; ports.out got ${count(got.length, "byte")}, ${quote(got)}`,
		advice(written),
	);
	const answer = "world";
	const typed = new Log((index) => answer.charCodeAt(index) || 0);
	const code = guests.repInsb(KEYBOARD, answer.length, SERIAL);
	const exits = await runGuest(attempt, "rep insb", () => run(code, typed));
	const reads = exits.filter(({ isWrite }) => isWrite !== true);
	report.must(
		typed.text === answer,
		`rep insb: the guest got the ${answer.length} bytes of ${quote(answer)}, what ports.in returned`,
		`rep insb: the guest read ${answer.length} bytes from port ${hex(KEYBOARD)}, ${quote(answer)} was to come, and it got ${quote(typed.text)}; ports.in was called ${count(typed.reads.length, "time")}`,
		advice(reads),
	);
}

async function checkOtherExit({ report, settle, recording }: Attempt, run: Run): Promise<void> {
	const before = recording.exits.length;
	const ending = await settle(() => run(guests.storeAl(NO_RAM), new Log()));
	const exit = recording.exits.slice(before).find(({ address }) => address !== undefined);
	const what = exit === undefined ? "an exit that is no port" : describeExit(exit);
	report.must(
		ending.kind !== "waits",
		"run ends at an exit that it does not know",
		`run does not end at an exit that it does not know (${what}): the vCPU stays there for ever`,
		"Close the run loop and reject for every exit that is neither KVM_EXIT_IO nor KVM_EXIT_HLT",
	);
	report.expect(
		ending.kind === "threw",
		"run rejects then: its caller learns that the guest did not halt",
		`run resolves at ${what}, as if the guest had halted`,
		"Reject with an Error that names the exit's reason",
	);
}
