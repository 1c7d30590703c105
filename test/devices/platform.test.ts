import { describe, expect, it } from "vitest";
import { AcpiRegisters } from "../../src/devices/acpi-registers.ts";
import { I8042 } from "../../src/devices/i8042.ts";
import { PciConfigStub } from "../../src/devices/pci-config-stub.ts";
import { Pvpanic } from "../../src/devices/pvpanic.ts";
import { Rtc } from "../../src/devices/rtc.ts";

describe("I8042", () => {
	function controller() {
		let resets = 0;
		const device = new I8042(() => resets++);
		const command = (byte: number) => device.write(4, 1, byte);
		const data = (byte: number) => device.write(0, 1, byte);
		const answer = () => {
			expect(device.read(4, 1) & 1).toBe(1);
			const byte = device.read(0, 1);
			expect(device.read(4, 1) & 1).toBe(0);
			return byte;
		};
		return { device, command, data, answer, resets: () => resets };
	}

	it("I8042 resets the machine on command 0xfe and never looks busy", () => {
		const { device, command, resets } = controller();
		expect(device.read(4, 1) & 2).toBe(0);
		command(0xfe);
		expect(resets()).toBe(1);
	});

	it("I8042 passes its self-tests and reports no mouse port", () => {
		const { command, answer } = controller();
		command(0xaa);
		expect(answer()).toBe(0x55);
		command(0xab);
		expect(answer()).toBe(0);
		command(0xa9);
		expect(answer()).toBe(0xff);
	});

	it("I8042 keeps its control register, with the mouse port always off", () => {
		const { command, data, answer } = controller();
		command(0x60);
		data(0x45);
		command(0xa8);
		command(0x20);
		expect(answer()).toBe(0x65);
	});

	it("I8042 resets through its output port, but only when bit 0 falls", () => {
		const { command, data, resets } = controller();
		command(0xd1);
		data(0xdf);
		expect(resets()).toBe(0);
		data(0xfe);
		expect(resets()).toBe(0);
		command(0xd1);
		data(0xfe);
		expect(resets()).toBe(1);
	});

	it("I8042 does not answer a keyboard or mouse that is not there", () => {
		const { device, command, data } = controller();
		data(0xff);
		expect(device.read(4, 1) & 1).toBe(0);
		command(0xd3);
		data(0x5a);
		expect(device.read(4, 1) & 1).toBe(0);
	});
});

describe("AcpiRegisters", () => {
	it("AcpiRegisters powers off for S5 with SLP_EN, and for nothing else", () => {
		const seen: string[] = [];
		const device = new AcpiRegisters({ onPowerOff: () => seen.push("off"), onReset: () => seen.push("reset") });
		for (let value = 0; value < 256; value++) device.write(0, 1, value);
		/* SLP_TYP 5 and SLP_EN, whatever the four reserved bits are. */
		expect(seen).toHaveLength(16);
		seen.length = 0;
		device.write(0, 1, 0x34);
		device.write(1, 1, 0x80);
		device.write(2, 1, 0);
		device.write(2, 1, 1);
		expect(seen).toEqual(["off", "reset"]);
		expect([0, 1, 2].map((offset) => device.read(offset, 1))).toEqual([0, 0, 0]);
	});
});

describe("PciConfigStub", () => {
	it("PciConfigStub keeps an address, and nothing is there", () => {
		const device = new PciConfigStub(() => undefined);
		/* As Linux looks for the mechanism: pci_check_type1 in arch/x86/pci/direct.c. */
		device.write(3, 1, 0x01);
		expect(device.read(0, 4)).toBe(0);
		device.write(0, 4, 0x80000000);
		expect(device.read(0, 4)).toBe(0x80000000);
		for (const [offset, size] of [
			[4, 4],
			[6, 2],
			[7, 1],
			[0, 1],
		] as const) {
			expect(device.read(offset, size)).toBe(0xffffffff);
		}
		device.write(0, 4, 0xffffffff);
		device.write(4, 4, 0);
		expect(device.read(0, 4)).toBe(0x80fffffc);
	});

	it("PciConfigStub resets on a byte write with RST_CPU", () => {
		let resets = 0;
		const device = new PciConfigStub(() => resets++);
		device.write(1, 1, 0x02);
		device.write(0, 4, 0xffffffff);
		expect(resets).toBe(0);
		device.write(1, 1, 0x06);
		expect(resets).toBe(1);
	});
});

describe("Pvpanic", () => {
	it("Pvpanic reports a panic, but not one that a crash kernel handles", () => {
		let panics = 0;
		const device = new Pvpanic(() => panics++);
		expect(device.read(0, 1)).toBe(3);
		device.write(0, 1, 2);
		expect(panics).toBe(0);
		device.write(0, 1, 1);
		expect(panics).toBe(1);
	});
});

describe("Rtc", () => {
	function clock(iso: string) {
		let now = Date.parse(iso);
		const device = new Rtc(() => now);
		const read = (register: number) => {
			device.write(0, 1, register);
			return device.read(1, 1);
		};
		const write = (register: number, value: number) => {
			device.write(0, 1, register);
			device.write(1, 1, value);
		};
		return { device, read, write, advance: (ms: number) => (now += ms) };
	}
	const REGISTERS = [0x32, 9, 8, 7, 4, 2, 0];

	it("Rtc shows the host's time in BCD and 24 hours", () => {
		const { read } = clock("2026-11-22T21:58:07.250Z");
		expect(REGISTERS.map(read)).toEqual([0x20, 0x26, 0x11, 0x22, 0x21, 0x58, 0x07]);
		expect(read(6)).toBe(1);
		expect(read(0x0d)).toBe(0x80);
		expect(read(0x0b)).toBe(0x02);
	});

	it("Rtc shows binary and 12 hours when register B asks for them", () => {
		const { read, write } = clock("2026-11-22T21:58:07Z");
		write(0x0b, 0x04);
		expect(REGISTERS.map(read)).toEqual([20, 26, 11, 22, 0x80 | 9, 58, 7]);
		expect(clock("2026-01-01T00:00:00Z").read(4)).toBe(0);
		const midnight = clock("2026-01-01T00:30:00Z");
		midnight.write(0x0b, 0);
		expect(midnight.read(4)).toBe(0x12);
	});

	it("Rtc announces the update before each second", () => {
		const { read, advance } = clock("2026-11-22T21:58:07.990Z");
		expect(read(0x0a)).toBe(0x26);
		advance(9);
		expect(read(0x0a)).toBe(0xa6);
		advance(1);
		expect([read(0x0a), read(0)]).toEqual([0x26, 0x08]);
	});

	it("Rtc runs on from the time that the guest sets as Linux does, with SET held", () => {
		const { read, write, advance } = clock("2026-11-22T21:58:07Z");
		write(0x0b, 0x82);
		for (const [i, value] of [0x20, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06].entries()) write(REGISTERS[i]!, value);
		advance(5000);
		expect(read(0)).toBe(0x06);
		write(0x0b, 0x02);
		advance(60_000);
		expect(REGISTERS.map(read)).toEqual([0x20, 0x01, 0x02, 0x03, 0x04, 0x06, 0x06]);
	});

	it("Rtc changes nothing but the register that is written to a running clock", () => {
		const { read, write } = clock("2026-11-22T21:58:07Z");
		write(9, 0x30);
		expect(REGISTERS.map(read)).toEqual([0x20, 0x30, 0x11, 0x22, 0x21, 0x58, 0x07]);
	});

	it("Rtc keeps the rest as RAM and survives any write", () => {
		const { device, read, write } = clock("2026-11-22T21:58:07Z");
		write(0x40, 0xab);
		expect(read(0x40)).toBe(0xab);
		for (let register = 0; register < 256; register++) {
			for (const value of [0, 0x7f, 0x80, 0xff]) {
				write(register, value);
				for (const index of REGISTERS) expect(Number.isInteger(read(index))).toBe(true);
			}
		}
		expect(device.read(0, 1)).toBe(0xff);
	});
});
