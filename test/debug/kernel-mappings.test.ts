/* What a kernel's page tables map, in tables that the test writes; and tables that have no end. */
import { beforeEach, expect, test } from "vitest";
import { GuestMemory } from "../../src/base/guest-memory.ts";
import { kernelMappings } from "../../src/debug/kernel-mappings.ts";

const MIB = 1 << 20;
let memory: GuestMemory;
beforeEach(() => {
	memory = new GuestMemory([{ gpa: 0, sizeBytes: 4 * MIB, hva: 0, buffer: new ArrayBuffer(4 * MIB) }]);
});

const long = { cr0: 1n << 31n, cr3: 0x1000n, cr4: 1n << 5n, efer: 1n << 10n };
const put = (table: number, index: number, entry: bigint) =>
	memory.find(table, 4096)!.view.setBigUint64(table + 8 * index, entry, true);

test("kernelMappings joins pages that go on, and leaves out the lower half and what is no RAM", () => {
	put(0x1000, 0, 0x2003n);
	put(0x1000, 273, 0x2003n);
	put(0x1000, 511, 0x3003n);
	/* The direct mapping: a page of 1 GiB, of which 4 MiB are RAM. */
	put(0x2000, 0, 0x83n);
	/* The kernel: two large pages in a row, then small ones. */
	put(0x3000, 510, 0x4003n);
	put(0x4000, 8, 0x00_0000n | 0x83n);
	put(0x4000, 9, 0x20_0000n | 0x83n);
	put(0x4000, 10, 0x5003n);
	put(0x5000, 0, 0x10_0003n);
	put(0x5000, 1, 0x8000_0000_0010_1003n);
	put(0x5000, 3, 0x10_3003n);
	put(0x5000, 4, 0xd000_0003n);
	expect(kernelMappings(memory, [long])).toEqual([
		{ address: 0xffff_8880_0000_0000n, gpa: 0, bytes: 4 * MIB },
		{ address: 0xffff_ffff_8100_0000n, gpa: 0, bytes: 4 * MIB },
		{ address: 0xffff_ffff_8140_0000n, gpa: 0x10_0000, bytes: 8192 },
		{ address: 0xffff_ffff_8140_3000n, gpa: 0x10_3000, bytes: 4096 },
	]);
	/* Of several vCPUs the one that sees the most: another has the tables of a user with page-table isolation. */
	put(0x6000, 511, 0x7003n);
	put(0x8000, 511, 0x3003n);
	put(0x8000, 273, 0x2003n);
	expect(kernelMappings(memory, [{ ...long, cr3: 0x9000n }])).toHaveLength(4);
	expect(kernelMappings(memory, [{ ...long, cr3: 0x6000n }, long])).toHaveLength(4);
	expect(kernelMappings(memory, [{ ...long, efer: 0n }])).toEqual([]);
	expect(kernelMappings(memory, [{ ...long, cr3: 0xffff_f000n }])).toEqual([]);
});

test("kernelMappings of tables that refer to one another ends", () => {
	for (let i = 0; i < 512; i++) put(0x1000, i, 0x1003n);
	expect(kernelMappings(memory, [long]).length).toBeLessThanOrEqual(16384);
	for (let i = 0; i < 512; i++) put(0x2000, i, BigInt(2 * i) * 0x1000n + 3n);
	for (let i = 0; i < 512; i++) put(0x1000, i, 0x2003n);
	expect(kernelMappings(memory, [{ ...long, cr4: (1n << 5n) | (1n << 12n) }]).length).toBeLessThanOrEqual(16384);
});
