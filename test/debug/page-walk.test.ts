/* Page walks in tables that the test writes: every mode, every page size, and what a hostile guest could leave there. */
import { describe, expect, test } from "vitest";
import { GuestMemory } from "../../src/base/guest-memory.ts";
import { type PagingRegisters, pagingMode, walkPages } from "../../src/debug/page-walk.ts";

const memory = new GuestMemory([{ gpa: 0, sizeBytes: 1 << 20, hva: 0, buffer: new ArrayBuffer(1 << 20) }]);
const PG = 1n << 31n;
const PSE = 1n << 4n;
const PAE = 1n << 5n;
const LA57 = 1n << 12n;
const LMA = 1n << 10n;
const NXE = 1n << 11n;
const XD = 1n << 63n;

const registers = (changes: Partial<PagingRegisters>): PagingRegisters => ({
	cr0: PG,
	cr3: 0x1000n,
	cr4: PAE,
	efer: LMA | NXE,
	...changes,
});

/** Writes an entry of 8 bytes. */
function put(table: number, index: number, entry: bigint): void {
	memory.find(table, 4096)!.view.setBigUint64(table + 8 * index, entry, true);
}

/** An address from its indices, from the root on. */
const address = (...indices: number[]) => {
	const offset = indices.reduce((sum, index) => (sum << 9n) | BigInt(index), 0n) << 12n;
	return BigInt.asUintN(64, BigInt.asIntN(12 + 9 * indices.length, offset));
};

describe("walkPages", () => {
	test("without paging an address is physical", () => {
		const found = walkPages(memory, registers({ cr0: 1n }), 0x1234n);
		expect(found).toMatchObject({ mode: "none", gpa: 0x1234, levels: [], writable: true, fault: undefined });
	});

	test("4-level: a page of 4 KiB, with each level and the rights of all", () => {
		put(0x1000, 511, 0x2067n);
		put(0x2000, 510, 0x3027n);
		put(0x3000, 8, 0x4025n | XD);
		put(0x4000, 1, 0x0000_00ab_cdef_0063n);
		const found = walkPages(memory, registers({}), address(511, 510, 8, 1) + 0x123n);
		expect(found).toMatchObject({ mode: "4-level", gpa: 0xab_cdef_0123, pageBytes: 4096, fault: undefined });
		expect(found).toMatchObject({ writable: false, user: false, executable: false });
		expect(found.address).toBe(0xffff_ffff_8100_1123n);
		expect(found.levels.map(({ table, index, tableGpa, leaf }) => [table, index, tableGpa, leaf])).toEqual([
			["PML4", 511, 0x1000, false],
			["PDPT", 510, 0x2000, false],
			["PD", 8, 0x3000, false],
			["PT", 1, 0x4000, true],
		]);
		expect(found.levels.map(({ writable, user, executable, dirty }) => [writable, user, executable, dirty])).toEqual([
			[true, true, true, true],
			[true, true, true, false],
			[false, true, false, false],
			[true, false, true, true],
		]);
		/* Without EFER.NXE bit 63 means nothing. */
		expect(walkPages(memory, registers({ efer: LMA }), found.address).executable).toBe(true);
	});

	test("4-level: pages of 2 MiB and of 1 GiB, whose PAT bit is no part of the address", () => {
		put(0x1000, 0, 0x5007n);
		put(0x5000, 0, 0x6007n);
		put(0x5000, 1, 0x4000_0000n | 0x1087n);
		put(0x6000, 3, 0x60_0000n | 0x1087n);
		expect(walkPages(memory, registers({}), 0x6f_1234n)).toMatchObject({ gpa: 0x6f_1234, pageBytes: 2 ** 21 });
		expect(walkPages(memory, registers({}), 0x4abc_def0n)).toMatchObject({ gpa: 0x4abc_def0, pageBytes: 2 ** 30 });
	});

	test("5-level begins one table higher", () => {
		put(0x7000, 0x110, 0x8003n);
		put(0x8000, 0, 0x5007n);
		const found = walkPages(memory, registers({ cr3: 0x7000n, cr4: PAE | LA57 }), address(0x110, 0, 0, 3, 5));
		expect(found).toMatchObject({ mode: "5-level", gpa: 0x60_5000, user: false, writable: true });
		expect(found.levels.map(({ table }) => table)).toEqual(["PML5", "PML4", "PDPT", "PD"]);
	});

	test("PAE: four entries without rights, then as in long mode", () => {
		put(0x9000, 0, 0xa001n);
		put(0x9018, 0, 0xa001n);
		put(0xa000, 1, 0xb007n);
		put(0xb000, 2, 0x8000_0000_0000_c005n);
		const pae = registers({ cr3: 0x9000n, efer: NXE });
		expect(pagingMode(pae)).toBe("PAE");
		expect(walkPages(memory, pae, 0x20_2345n)).toMatchObject({
			gpa: 0xc345,
			user: true,
			writable: false,
			executable: false,
		});
		expect(walkPages(memory, pae, 0xc020_2345n).gpa).toBe(0xc345);
		expect(walkPages(memory, pae, 0x1_0020_2345n)).toMatchObject({ gpa: undefined, fault: "it has more than 32 bits" });
	});

	test("32-bit: pages of 4 KiB, and of 4 MiB above 4 GiB with PSE", () => {
		memory.setU32(0xd000 + 4 * 768, 0xe067);
		memory.setU32(0xe000 + 4 * 5, 0xf067);
		memory.setU32(0xd000 + 4, 0x0080_0000 | (0x12 << 13) | 0xe7);
		const plain = registers({ cr3: 0xd000n, cr4: PSE, efer: 0n });
		expect(walkPages(memory, plain, 0xc000_5678n)).toMatchObject({ mode: "32-bit", gpa: 0xf678, pageBytes: 4096 });
		expect(walkPages(memory, plain, 0x0040_1234n)).toMatchObject({ gpa: 0x12_0080_1234, pageBytes: 2 ** 22 });
		/* Without PSE the same entry is a table, which is not in RAM. */
		expect(walkPages(memory, { ...plain, cr4: 0n }, 0x0040_1234n).fault).toBe("the PT at 0x824000 is not in RAM");
	});

	test("what is not mapped says where the walk has ended", () => {
		expect(walkPages(memory, registers({}), 0x20_0000n)).toMatchObject({
			gpa: undefined,
			fault: "entry 1 of the PD is not present",
			levels: [{ table: "PML4" }, { table: "PDPT" }, { table: "PD", present: false }],
		});
		expect(walkPages(memory, registers({}), 0x8000_0000_0000n).fault).toBe("it is not canonical: bits 63 to 47 differ");
		expect(walkPages(memory, registers({ cr3: 0xf_ffff_ffff_f000n }), 0n)).toMatchObject({
			levels: [],
			fault: "the PML4 at 0xffffffffff000 is not in RAM",
		});
	});

	test("tables that point at themselves end", () => {
		put(0x10000, 0, 0x10007n);
		expect(walkPages(memory, registers({ cr3: 0x10000n }), 0n)).toMatchObject({ gpa: 0x10000, fault: undefined });
	});

	test("any table gives an answer and no error", () => {
		let seed = 1;
		const random = () => {
			seed = (seed * 1103515245 + 12345) % 2147483648;
			return seed;
		};
		for (let i = 0; i < 1 << 17; i++) memory.setU32(4 * i, random() * 2 + (random() % 2));
		for (let i = 0; i < 2000; i++) {
			const word = () => BigInt(random()) * BigInt(random()) * 4n;
			const found = walkPages(memory, { cr0: word(), cr3: word(), cr4: word(), efer: word() }, word());
			expect(found.gpa === undefined).toBe(found.fault !== undefined);
		}
	});
});
