/* The tables as Intel's own disassembler (iasl, Debian package acpica-tools) reads them. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GuestMemory } from "../../src/base/guest-memory.ts";
import { bytesOf, integer, name, pkg, string } from "../../src/boot/acpi/aml.ts";
import { writeAcpiTables } from "../../src/boot/acpi/tables.ts";
import { writeMpTable } from "../../src/boot/mptable.ts";
import { virtioSlot } from "../../src/machine/memory-map.ts";
import { fakeMemory } from "./images.ts";

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
const text = (memory: GuestMemory, at: number, length: number): string =>
	Buffer.from(memory.bytes(at, length)).toString("latin1");

/** Follows RSDP, XSDT and FADT as a kernel does. */
function findTables(memory: GuestMemory): Map<string, Uint8Array> {
	const tables = new Map<string, Uint8Array>();
	const read = (at: number): Uint8Array => {
		const bytes = memory.bytes(at, memory.u32(at + 4));
		tables.set(text(memory, at, 4), bytes);
		return bytes;
	};
	let rsdp = 0xe0000;
	while (text(memory, rsdp, 8) !== "RSD PTR ") rsdp += 16;
	expect(sum(memory.bytes(rsdp, 20))).toBe(0);
	expect(sum(memory.bytes(rsdp, 36))).toBe(0);
	const xsdt = memory.u64(rsdp + 24);
	for (let at = xsdt + 36; at < xsdt + read(xsdt).length; at += 8) {
		const table = memory.u64(at);
		read(table);
		if (text(memory, table, 4) === "FACP") read(memory.u64(table + 140));
	}
	return tables;
}

describe("writeAcpiTables", () => {
	let directory: string;
	beforeAll(() => {
		directory = mkdtempSync(join(tmpdir(), "tsvmm-acpi-"));
	});
	afterAll(() => rmSync(directory, { recursive: true, force: true }));

	function disassemble(table: Uint8Array): string {
		const path = join(directory, "table.aml");
		writeFileSync(path, table);
		execFileSync("iasl", ["-d", path], { cwd: directory, stdio: "pipe" });
		return readFileSync(join(directory, "table.dsl"), "utf8");
	}

	const memory = fakeMemory(2);
	const rsdp = writeAcpiTables(
		memory,
		3,
		[0, 1, 8].map((slot) => virtioSlot(slot)),
	);
	const tables = findTables(memory);

	it("writeAcpiTables gives every table a valid checksum", () => {
		expect(rsdp).toBe(0xe0000);
		expect([...tables.keys()].sort()).toEqual(["APIC", "DSDT", "FACP", "XSDT"]);
		for (const table of tables.values()) expect(sum(table)).toBe(0);
	});

	it("writeAcpiTables describes devices in AML that iasl disassembles and compiles again", () => {
		const source = disassemble(tables.get("DSDT")!);
		const flat = source.replace(/\/\/.*|\/\*[\s\S]*?\*\//g, "").replace(/\s+/g, " ");
		expect(flat).toContain("Name (\\_S5, Package (0x04) { 0x05, Zero, Zero, Zero })");
		expect(flat).toContain('EisaId ("PNP0501")');
		expect(flat).toContain('EisaId ("PNP0B00")');
		expect(flat.match(/Name \(_HID, "LNRO0005"\)/g)).toHaveLength(3);
		expect(flat.match(/Name \(_HID, "ACPI0007" ?\)/g)).toHaveLength(3);
		expect(flat).toContain("Memory32Fixed (ReadWrite, 0xD0008000, 0x00001000, )");
		expect(flat).toMatch(/Interrupt \(ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, \) \{ 0x00000005, \}/);
		expect(flat).toContain("OperationRegion (HPRG, SystemIO, 0x0610, 0x08)");
		expect(flat).toContain("Field (HPRG, DWordAcc, NoLock, Preserve) { PRES, 32, CHNG, 32 }");
		expect(flat).toMatch(/Device \(V002\).*?If \(\(PRES & 0x04\)\) \{ Return \(0x0F\) \} Return \(Zero\)/);
		expect(flat).toContain("Local0 = CHNG CHNG = Local0 If ((Local0 & One)) { Notify (S000, Zero");
		expect(flat).toMatch(/If \(\(Local0 & 0x04\)\) \{ Notify \(S002, Zero/);
		expect(flat).toMatch(/Device \(VGEN\).*?"VM_Gen_Counter".*?Name \(ADDR, Package \(0x02\) \{ 0x000DFFF0, Zero \}\)/);
		expect(flat).toContain("If ((Local0 & 0x80000000)) { Notify (VGEN, 0x80");
		const path = join(directory, "again.dsl");
		writeFileSync(path, source);
		const output = execFileSync("iasl", ["-tc", path], { cwd: directory, encoding: "utf8" });
		expect(output).toContain("0 Errors, 0 Warnings");
	});

	it("writeAcpiTables declares hardware-reduced ACPI with sleep and reset registers", () => {
		const source = disassemble(tables.get("FACP")!);
		expect(source).toMatch(/Hardware Reduced \(V5\) : 1/);
		expect(source).toMatch(/Reset Register Supported \(V2\) : 1/);
		expect(source).toMatch(/Value to cause reset : 01/);
		expect(source).toMatch(/8042 Present on ports 60\/64 \(V2\) : 0/);
		expect(source).toMatch(/CMOS RTC Not Present \(V5\) : 0/);
		const registers = source.replace(/\n\n/g, "\n").match(/Register : \[Generic[\s\S]*?Address : \w+/g)!;
		expect(registers.map((r) => r.slice(-3))).toEqual(["602", "600", "601"]);
	});

	it("writeAcpiTables lists one enabled local APIC per vCPU and the I/O APIC", () => {
		const source = disassemble(tables.get("APIC")!);
		expect(source.match(/Subtable Type : 00/g)).toHaveLength(3);
		expect(source.match(/Processor Enabled : 1/g)).toHaveLength(3);
		expect(source).toMatch(/Address : FEC00000/);
	});

	it("writeAcpiTables has room for 32 vCPUs and every slot", () => {
		const full = fakeMemory(2);
		const slots = Array.from({ length: 16 }, (_, i) => virtioSlot(i));
		writeAcpiTables(full, 32, slots);
		expect(disassemble(findTables(full).get("DSDT")!).match(/Device \(/g)).toHaveLength(4 + 2 * 16 + 1 + 32);
	});
});

describe("aml", () => {
	it("integer takes the shortest form", () => {
		expect([0, 1, 2, 255, 256, 65535, 65536].map((n) => bytesOf(integer(n)).toString("hex"))).toEqual([
			"00",
			"01",
			"0a02",
			"0aff",
			"0b0001",
			"0bffff",
			"0c00000100",
		]);
	});

	it("pkg counts its own length in one, two and three bytes", () => {
		expect(bytesOf(pkg(string("x".repeat(58)))).toString("hex", 0, 3)).toBe("123e01");
		expect(bytesOf(pkg(string("x".repeat(60)))).toString("hex", 0, 4)).toBe("12410401");
		expect(bytesOf(pkg(string("x".repeat(4096)))).toString("hex", 0, 5)).toBe("1286000101");
	});

	it("name refuses what is no ACPI name", () => {
		expect(() => name("toolong", integer(0))).toThrow(RangeError);
	});
});

describe("writeMpTable", () => {
	it.each([1, 32])("writeMpTable describes %i vCPUs with valid checksums", (cpus) => {
		const memory = fakeMemory(2);
		writeMpTable(memory, cpus);
		expect(text(memory, 0xf0000, 4)).toBe("_MP_");
		expect(sum(memory.bytes(0xf0000, 16))).toBe(0);
		const table = memory.u32(0xf0004);
		const length = memory.u16(table + 4);
		expect(text(memory, table, 4)).toBe("PCMP");
		expect(sum(memory.bytes(table, length))).toBe(0);
		let processors = 0;
		let entries = 0;
		for (let at = table + 44; at < table + length; entries++) {
			if (memory.u8(at) === 0) processors++;
			at += memory.u8(at) === 0 ? 20 : 8;
		}
		expect(processors).toBe(cpus);
		expect(entries).toBe(memory.u16(table + 34));
	});
});
