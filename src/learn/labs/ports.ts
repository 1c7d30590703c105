/*
 * The check of lab 2: the program exports `run`, which gets guests that access ports in every way, and one that does
 * something else.
 */
import type { Attempt } from "../attempt.ts";
import type { Ports } from "../bare-machine.ts";
import { describeExit } from "../exit-names.ts";
import * as guests from "../guests.ts";
import type { Lab } from "../lab.ts";
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
		await checkString(attempt, run);
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
	readonly #answer: number;

	constructor(answer = 0) {
		this.#answer = answer;
	}
	out(port: number, size: number, value: number): void {
		this.writes.push({ port, size, value });
	}
	in(port: number, size: number): number {
		this.reads.push({ port, size });
		return this.#answer;
	}
}

const describe = ({ port, size, value }: { port: number; size: number; value: number }): string =>
	`${hex(value)} (${count(size, "byte")}) to port ${hex(port)}`;

async function checkOut({ report, call }: Attempt, run: Run): Promise<void> {
	for (const [what, code, port, size, value] of [
		["out dx, al", guests.outb(SERIAL, 0x41), SERIAL, 1, 0x41],
		["out dx, ax", [...guests.movDx(OWN), ...guests.movAx(0x1234), ...guests.OUT_AX], OWN, 2, 0x1234],
	] as const) {
		const log = new Log();
		await call(`run, for a guest that says ${what},`, () => run(Uint8Array.from([...code, ...guests.HLT]), log));
		const expected = describe({ port, size, value });
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
	const { report, call } = attempt;
	for (const [what, read, write, size, value] of [
		["in al, dx", guests.IN_AL, guests.OUT_AL, 1, 0x9c],
		["in ax, dx", guests.IN_AX, guests.OUT_AX, 2, 0xbeef],
	] as const) {
		const log = new Log(value);
		const code = [...guests.movDx(KEYBOARD), ...read, ...guests.movDx(SERIAL), ...write, ...guests.HLT];
		await call(`run, for a guest that says ${what},`, () => run(Uint8Array.from(code), log));
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

async function checkString({ report, call, recording }: Attempt, run: Run): Promise<void> {
	const text = "hello";
	const log = new Log();
	const before = recording.exits.length;
	await call("run, for a guest that says rep outsb,", () => run(guests.repOutsb(SERIAL, text), log));
	const got = String.fromCharCode(...log.writes.map(({ value }) => value));
	const exits = recording.exits.slice(before).filter(({ port }) => port !== undefined);
	const counts = exits.map((exit) => exit.count).join(" + ");
	report.must(
		got === text,
		`rep outsb: the ${text.length} bytes of ${quote(text)} came in order`,
		`rep outsb: the guest wrote ${text.length} bytes to port ${hex(SERIAL)}, ${quote(text)}; ports.out got ${count(got.length, "byte")}, ${quote(got)}`,
		`Look at kvm_run.io.count: here the exits had ${counts} values, one after the other at data_offset`,
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
