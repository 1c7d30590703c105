/* Where a kernel has placed itself, by what is known of its machine. */
import { expect, test } from "vitest";
import { mapSymbols } from "../../../src/debug/symbols/map.ts";
import { type PlacementSigns, placementOf } from "../../../src/debug/symbols/placement.ts";

const ENTRY = 0xffff_ffff_81c0_0080n;
const linux = mapSymbols("ffffffff81000000 T _stext\nffffffff81c00080 T entry_SYSCALL_64\n", "map");
const other = mapSymbols("ffffffff81000000 T _stext\n", "map");

const nothing: PlacementSigns = { lstar: [], elf: false, cmdline: "console=ttyS0", printed: undefined };
const slide = (signs: Partial<PlacementSigns>, symbols = linux) => placementOf(symbols, { ...nothing, ...signs }).slide;

test("placementOf takes MSR_LSTAR before anything else", () => {
	expect(slide({ lstar: [ENTRY + 0x1a00_0000n] })).toBe(0x1a00_0000n);
	/* Of a CPU that is not up yet. */
	expect(slide({ lstar: [0n, ENTRY], elf: true })).toBe(0n);
	expect(slide({ lstar: [ENTRY + 0x20_0000n], printed: "0x600000 from 0xffffffff81000000", elf: true })).toBe(
		0x20_0000n,
	);
});

test("placementOf names nothing by another kernel's symbols", () => {
	for (const wrong of [ENTRY + 0x1000n, ENTRY - 0x40n, 0xffff_ffff_ffff_0000n]) {
		const found = placementOf(linux, { ...nothing, elf: true, lstar: [wrong] });
		expect(found.slide).toBe(undefined);
		expect(found.because).toMatch(/another kernel's$/);
	}
});

test("placementOf takes what the kernel has printed, and how it was booted", () => {
	expect(slide({ printed: "0x1a000000 from 0xffffffff81000000 (relocation range: ...)" })).toBe(0x1a00_0000n);
	expect(slide({ printed: "disabled" })).toBe(0n);
	expect(slide({ printed: "0x1a000001 from 0xffffffff81000000" })).toBe(undefined);
	expect(slide({ printed: "0xffffffffffffffffff" })).toBe(undefined);
	expect(slide({ elf: true })).toBe(0n);
	expect(slide({ cmdline: "quiet nokaslr" })).toBe(0n);
	expect(slide({ cmdline: "quiet nokaslrx" })).toBe(undefined);
	expect(slide({})).toBe(undefined);
});

test("placementOf knows nothing by an entry that the symbols do not have, or that is not in the image", () => {
	expect(slide({ lstar: [ENTRY] }, other)).toBe(undefined);
	expect(slide({ lstar: [ENTRY], elf: true }, other)).toBe(0n);
	/* The trampoline of old kernels. */
	expect(slide({ lstar: [0xffff_fe00_0000_6000n] })).toBe(undefined);
});
