/* PageSet: single pages, runs of them, and unions. */
import { describe, expect, test } from "vitest";
import { PageSet } from "../../src/base/page-set.ts";

const of = (pages: number, ...members: number[]) => {
	const set = new PageSet(pages);
	for (const page of members) set.add(page);
	return set;
};

describe("PageSet", () => {
	test("has what was added, and keeps it as bits, lowest first", () => {
		const set = of(20, 0, 9, 19);
		expect(Array.from({ length: 20 }, (_, page) => page).filter((page) => set.has(page))).toEqual([0, 9, 19]);
		expect([...set.bits]).toEqual([0x01, 0x02, 0x08]);
		const other = new PageSet(20);
		other.bits.set(set.bits);
		expect([...other.runs()]).toEqual([...set.runs()]);
	});

	test("add takes runs that begin and end anywhere in a byte", () => {
		for (let start = 0; start < 20; start++) {
			for (let end = start; end <= 40; end++) {
				const set = of(48);
				set.add(start, end);
				const found = Array.from({ length: 48 }, (_, page) => page).filter((page) => set.has(page));
				expect(found).toEqual(Array.from({ length: end - start }, (_, i) => start + i));
			}
		}
	});

	test("keep leaves what another set has, too", () => {
		const set = of(64);
		set.add(3, 40);
		set.keep(of(64, 0, 3, 9, 39, 40, 63));
		expect([...set.runs()]).toEqual([
			[3, 4],
			[9, 10],
			[39, 40],
		]);
	});

	test("runs gives adjacent pages as one, within bounds", () => {
		const set = new PageSet(64);
		set.add(3, 5);
		set.add(5, 20);
		set.add(40);
		set.add(62, 64);
		expect([...set.runs()]).toEqual([
			[3, 20],
			[40, 41],
			[62, 64],
		]);
		expect([...set.runs(4, 41)]).toEqual([
			[4, 20],
			[40, 41],
		]);
		expect([...set.runs(10, 12)]).toEqual([[10, 12]]);
		expect([...set.runs(20, 40)]).toEqual([]);
		expect([...of(64).runs()]).toEqual([]);
	});

	test("addAll makes a union", () => {
		const set = of(32, 1, 2);
		set.addAll(of(32, 2, 3, 31));
		expect([...set.runs()]).toEqual([
			[1, 4],
			[31, 32],
		]);
	});
});
