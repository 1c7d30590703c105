/*
 * Every device of the platform is saved in the middle of its work and restored to a fresh one, which goes on. A restore
 * from a damaged state is refused, or the device works.
 */
import { describe, expect, test } from "vitest";
import type { BusDevice } from "../../src/base/bus.ts";
import type { Stateful } from "../../src/base/state.ts";
import { AcpiRegisters } from "../../src/devices/acpi-registers.ts";
import { HotPlug } from "../../src/devices/hot-plug.ts";
import { I8042 } from "../../src/devices/i8042.ts";
import { PciConfigStub } from "../../src/devices/pci-config-stub.ts";
import { Pvpanic } from "../../src/devices/pvpanic.ts";
import { Rtc } from "../../src/devices/rtc.ts";
import { Serial } from "../../src/devices/serial.ts";
import { Random } from "../driver/random.ts";
import { refusesOrWorks } from "../driver/state-fuzz.ts";

const [DATA, IER, IIR, LCR, MCR, LSR, , SCR] = [0, 1, 2, 3, 4, 5, 6, 7];
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function port() {
	const lines: string[] = [];
	const output: Buffer[] = [];
	const serial = new Serial({
		line: { raise: () => lines.push("raise"), lower: () => lines.push("lower") },
		onOutput: (bytes) => output.push(Buffer.from(bytes)),
	});
	return { serial, lines, written: () => Buffer.concat(output).toString("latin1") };
}

/** A serial port with input, output and interrupts under way. */
function busyPort() {
	const { serial } = port();
	serial.write(LCR, 1, 0x83);
	serial.write(DATA, 1, 0x34);
	serial.write(IER, 1, 0x12);
	serial.write(LCR, 1, 0x03);
	serial.write(IIR, 1, 0xc1);
	serial.write(IER, 1, 3);
	serial.write(SCR, 1, 0x5a);
	serial.input(Buffer.from("typed ahead of the guest"));
	for (let i = 0; i < 6; i++) serial.read(DATA, 1);
	for (const byte of Buffer.from("half a li")) serial.write(DATA, 1, byte);
	return serial;
}

describe("Serial", () => {
	test("Serial goes on where it was saved: registers, input, output and interrupt", async () => {
		const state = structuredClone(busyPort().save());
		const { serial, lines, written } = port();
		serial.restore(state);
		expect(lines).toEqual(["raise"]);
		expect(serial.lsrWord[0]).toBe(0x61);
		expect([serial.read(SCR, 1), serial.read(LCR, 1), serial.read(IER, 1), serial.read(IIR, 1)]).toEqual([
			0x5a, 3, 3, 0xc4,
		]);
		let typed = "";
		while ((serial.read(LSR, 1) & 1) !== 0) typed += String.fromCharCode(serial.read(DATA, 1));
		expect(typed).toBe("ahead of the guest");
		/* Then the transmitter's interrupt, which was pending all the time. */
		expect(serial.read(IIR, 1)).toBe(0xc2);
		expect(lines).toEqual(["raise", "lower"]);
		for (const byte of Buffer.from("ne\n")) serial.write(DATA, 1, byte);
		await turn();
		expect(written()).toBe("half a line\n");
		serial.write(LCR, 1, 0x83);
		expect([serial.read(DATA, 1), serial.read(IER, 1)]).toEqual([0x34, 0x12]);
	});

	test("Serial keeps what was sent in loopback, and hands output over by itself after a restore", async () => {
		const { serial: before } = port();
		before.write(DATA, 1, 0x2e);
		before.write(MCR, 1, 0x10);
		for (const byte of [1, 2, 3]) before.write(DATA, 1, byte);
		const { serial, written } = port();
		serial.restore(before.save());
		expect([1, 2, 3].map(() => serial.read(DATA, 1))).toEqual([1, 2, 3]);
		await turn();
		expect(written()).toBe(".");
	});

	test("Serial has nothing in its state any more that it handed over", async () => {
		const serial = busyPort();
		serial.flush();
		expect(serial.save()).toMatchObject({ output: new Uint8Array(0) });
	});
});

test("I8042 goes on between a command and its parameter, and between a question and its answer", () => {
	const before = new I8042(() => undefined);
	before.write(4, 1, 0xaa);
	before.write(4, 1, 0x60);
	let resets = 0;
	const after = new I8042(() => resets++);
	after.restore(structuredClone(before.save()));
	expect(after.read(4, 1) & 1).toBe(1);
	expect(after.read(0, 1)).toBe(0x55);
	after.write(0, 1, 0x45);
	after.write(4, 1, 0x20);
	expect(after.read(0, 1)).toBe(0x65);
	after.write(4, 1, 0xd1);
	const last = new I8042(() => resets++);
	last.restore(after.save());
	last.write(0, 1, 0xfe);
	expect(resets).toBe(1);
});

test("Rtc shows the time that has passed since it was saved, in the guest's own reckoning", () => {
	let now = Date.parse("2026-11-22T21:58:07Z");
	const before = new Rtc(() => now);
	const set = (register: number, value: number) => {
		before.write(0, 1, register);
		before.write(1, 1, value);
	};
	set(0x09, 0x30);
	set(0x40, 0xab);
	set(0x0b, 0x06);
	before.write(0, 1, 0x04);
	const state = structuredClone(before.save());
	now += 3600_000;
	const after = new Rtc(() => now);
	after.restore(state);
	expect(after.read(1, 1)).toBe(22);
	for (const [register, value] of [
		[0x09, 30],
		[0x02, 58],
		[0x40, 0xab],
	] as const) {
		after.write(0, 1, register);
		expect(after.read(1, 1)).toBe(value);
	}
});

test("PciConfigStub keeps the address that was written last", () => {
	const before = new PciConfigStub(() => undefined);
	before.write(0, 4, 0x80001234);
	const after = new PciConfigStub(() => undefined);
	after.restore(structuredClone(before.save()));
	expect(after.read(0, 4)).toBe(0x80001234);
});

type Device = BusDevice & Stateful;
const nothing = () => undefined;
const DEVICES: [string, () => Device][] = [
	["Serial", busyPort],
	["I8042", () => new I8042(nothing)],
	["Rtc", () => new Rtc(() => 0)],
	["AcpiRegisters", () => new AcpiRegisters({ onPowerOff: nothing, onReset: nothing })],
	["HotPlug", () => new HotPlug(nothing)],
	["PciConfigStub", () => new PciConfigStub(nothing)],
	["Pvpanic", () => new Pvpanic(nothing)],
];

describe.each(DEVICES)("%s", (name, make) => {
	const fresh = () => (name === "Serial" ? port().serial : make());

	test(`${name} saves plain data that is the same after a restore`, () => {
		const state = make().save();
		expect(structuredClone(state)).toEqual(state);
		const device = fresh();
		device.restore(state);
		expect(device.save()).toEqual(state);
	});

	test(`${name} refuses a damaged state, or works with it`, async () => {
		const { refused, taken } = await refusesOrWorks(make().save(), new Random(1), (state) => {
			const device = fresh();
			const before = device.save();
			try {
				device.restore(state);
			} catch (error) {
				expect(device.save()).toEqual(before);
				throw error;
			}
			return async () => {
				const random = new Random(2);
				for (let i = 0; i < 60; i++) {
					const offset = random.below(8);
					device.write(offset, 1, random.below(256));
					const value = device.read(offset, 1);
					expect(Number.isInteger(value) && value >= 0).toBe(true);
				}
				await Promise.resolve();
				expect(structuredClone(device.save())).toEqual(device.save());
			};
		});
		expect(refused).toBeGreaterThan(20);
		expect(taken).toBeGreaterThan(0);
	});
});
