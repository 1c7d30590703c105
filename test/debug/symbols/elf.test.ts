/* Symbols of ELF files that the C compiler makes, and of files that are damaged. */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { kernelSymbols, symbolsIn } from "../../../src/debug/symbols/kernel-symbols.ts";

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
	const symbols = await kernelSymbols(elf);
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

test("Symbols.moved names the same symbols elsewhere", async () => {
	const symbols = (await kernelSymbols(elf)).moved(0x1a00_0000n);
	expect(symbols.find("first")).toBe(0xffff_ffff_9b00_0000n);
	expect(symbols.describe(0xffff_ffff_9b00_0003n)).toBe("first+0x3");
	expect(symbols.nearest(0xffff_ffff_8100_0003n)).toBe(undefined);
});

test("kernelSymbols takes those of FILE.debug for a file without, and none where there are none", async () => {
	const stripped = join(directory, "stripped");
	execFileSync("strip", ["-o", stripped, elf]);
	const none = await kernelSymbols(stripped);
	expect([none.count, none.path, none.nearest(0xffff_ffff_8100_0003n)]).toEqual([0, undefined, undefined]);
	execFileSync("strip", ["--only-keep-debug", "-o", `${stripped}.debug`, elf]);
	const symbols = await kernelSymbols(stripped);
	expect(symbols.path).toBe(`${stripped}.debug`);
	expect(symbols.describe(0xffff_ffff_8100_0001n)).toBe("first+0x1");
});

test("symbolsIn refuses what is no ELF file, is cut short, or is not there", async () => {
	const broken = join(directory, "broken");
	const found = (message: RegExp) => expect(symbolsIn(broken)).rejects.toMatchObject({ code: "ERR_SYMBOLS", message });
	await found(/no such file/i);
	writeFileSync(broken, "no ELF file, but long enough to be read as the header of one, which has 64 bytes");
	await found(/line 1 is none of a System.map: "no ELF file, /);
	copyFileSync(elf, broken);
	truncateSync(broken, statSync(elf).size - 10);
	await found(/its headers speak of/);
	for (let at = 0; at < 64; at++) {
		const bytes = readFileSync(elf);
		bytes[at] = bytes[at]! ^ 0xff;
		writeFileSync(broken, bytes);
		await symbolsIn(broken).catch((error) => expect(error.code).toBe("ERR_SYMBOLS"));
	}
});
