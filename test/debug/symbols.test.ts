/* Symbols of ELF files that the C compiler makes, and of files that are damaged. */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Symbols } from "../../src/debug/symbols.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-symbols-"));
const elf = join(directory, "vmlinux");
afterAll(() => rmSync(directory, { recursive: true }));

const SOURCE = `
.text
.globl first; .type first, @function
first: nop; nop; nop; nop
.size first, 4
.type second, @function
second: alias_of_second: nop; ret
.size second, 2
.globl alias_of_second
.set absolute, 0x10
`;

beforeAll(() => {
	writeFileSync(join(directory, "a.s"), SOURCE);
	const link = ["-nostdlib", "-static", "-Wl,-Ttext=0xffffffff81000000", "-Wl,-e,first", "-Wl,--build-id=none"];
	execFileSync("gcc", [...link, "-o", elf, join(directory, "a.s")]);
});

test("Symbols.nearest names the symbol before an address, and nothing outside", async () => {
	const symbols = await Symbols.read(elf);
	expect(symbols.path).toBe(elf);
	expect(symbols.find("first")).toBe(0xffff_ffff_8100_0000n);
	expect(symbols.nearest(0xffff_ffff_8100_0003n)).toEqual({
		name: "first",
		address: 0xffff_ffff_8100_0000n,
		offset: 3n,
	});
	/* Of two at one address the global one. */
	expect(symbols.describe(0xffff_ffff_8100_0004n)).toBe("alias_of_second");
	expect(symbols.describe(0xffff_ffff_8100_0005n)).toBe("alias_of_second+0x1");
	expect(symbols.nearest(0xffff_ffff_80ff_ffffn)).toBe(undefined);
	expect(symbols.describe(0xffff_ffff_ffff_0000n)).toBe("0xffffffffffff0000");
	expect(symbols.find("absolute")).toBe(undefined);
	expect(symbols.find("firs")).toBe(undefined);
});

test("Symbols.read takes those of FILE.debug for a file without, and none where there are none", async () => {
	const stripped = join(directory, "stripped");
	execFileSync("strip", ["-o", stripped, elf]);
	const none = await Symbols.read(stripped);
	expect([none.count, none.path, none.nearest(0xffff_ffff_8100_0003n)]).toEqual([0, undefined, undefined]);
	execFileSync("strip", ["--only-keep-debug", "-o", `${stripped}.debug`, elf]);
	const symbols = await Symbols.read(stripped);
	expect(symbols.path).toBe(`${stripped}.debug`);
	expect(symbols.describe(0xffff_ffff_8100_0001n)).toBe("first+0x1");
});

test("Symbols.read refuses what is no ELF file, is cut short, or is not there", async () => {
	const broken = join(directory, "broken");
	const found = (message: RegExp) =>
		expect(Symbols.read(broken)).rejects.toMatchObject({ code: "ERR_SYMBOLS", message });
	await found(/no such file/i);
	writeFileSync(broken, "no ELF file, but long enough to be read as the header of one, which has 64 bytes");
	await found(/is no ELF file for x86-64$/);
	copyFileSync(elf, broken);
	truncateSync(broken, statSync(elf).size - 10);
	await found(/its headers speak of/);
	for (let at = 0; at < 64; at++) {
		const bytes = readFileSync(elf);
		bytes[at] = bytes[at]! ^ 0xff;
		writeFileSync(broken, bytes);
		await Symbols.read(broken).catch((error) => expect(error.code).toBe("ERR_SYMBOLS"));
	}
});
