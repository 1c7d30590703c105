import { expect, test } from "vitest";
import { SnapshotError } from "../../src/base/errors.ts";
import { StateReader } from "../../src/base/state.ts";

const reader = (fields: Record<string, unknown>) => new StateReader("thing", fields);

function codeOf(run: () => unknown): string {
	try {
		run();
	} catch (error) {
		if (error instanceof SnapshotError) return `${error.code} ${error.message}`;
		throw error;
	}
	return "nothing was thrown";
}

test("StateReader gives fields of every kind that structuredClone carries", () => {
	const state = structuredClone({
		version: 3,
		small: 255,
		wide: 2 ** 32 - 1,
		features: (1n << 64n) - 1n,
		on: true,
		line: "abc",
		data: Uint8Array.of(1, 2, 3),
		inner: { deep: 7 },
		queues: [{ at: 1 }, { at: 2 }],
	});
	const read = new StateReader("thing", state).version(3);
	expect([read.u8("small"), read.u32("wide"), read.u64("features")]).toEqual([255, 2 ** 32 - 1, (1n << 64n) - 1n]);
	expect([read.boolean("on"), read.string("line", 3)]).toEqual([true, "abc"]);
	expect(read.bytes("data", 3)).toEqual(Uint8Array.of(1, 2, 3));
	expect(read.object("inner").u8("deep")).toBe(7);
	expect(read.list("queues", 0, 2).map((queue) => queue.u16("at"))).toEqual([1, 2]);
	expect([read.has("line"), read.has("toString")]).toEqual([true, false]);
});

test("StateReader.bytes gives a copy, so that nobody changes a restored device from outside", () => {
	const data = Uint8Array.of(1, 2, 3);
	const read = reader({ data }).bytes("data", 0, 8);
	data[0] = 9;
	expect(read[0]).toBe(1);
});

test.each<[string, (r: StateReader) => unknown, unknown, string]>([
	["a number above its range", (r) => r.u8("x"), 256, "256 and not a whole number from 0 to 255"],
	["a number below its range", (r) => r.u16("x"), -1, "-1 and not"],
	["a fraction", (r) => r.u32("x"), 0.5, "0.5 and not"],
	["NaN", (r) => r.integer("x", -5, 5), Number.NaN, "NaN and not"],
	["a string for a number", (r) => r.u8("x"), "1", '"1" and not'],
	["an object with valueOf for a number", (r) => r.u8("x"), { valueOf: () => 1 }, "an object and not"],
	["a number for a bigint", (r) => r.u64("x"), 1, "1 and not a bigint of 64 bits"],
	["a bigint of 65 bits", (r) => r.u64("x"), 1n << 64n, "more than 64 bits and not"],
	["a number for a boolean", (r) => r.boolean("x"), 1, "1 and not true or false"],
	["a long string", (r) => r.string("x", 4), "abcde", '"abcde" and not a string of at most 4'],
	["too few bytes", (r) => r.bytes("x", 4), new Uint8Array(3), "3 bytes and not 4 bytes"],
	["too many bytes", (r) => r.bytes("x", 0, 4), new Uint8Array(5), "5 bytes and not 0 to 4 bytes"],
	["words for bytes", (r) => r.bytes("x", 0, 4), new Uint16Array(2), "an object and not"],
	["a list for an object", (r) => r.object("x"), [], "a list of 0 is no object"],
	["bytes for an object", (r) => r.object("x"), new Uint8Array(2), "2 bytes is no object"],
	["null for an object", (r) => r.object("x"), null, "null is no object"],
	["an object for a list", (r) => r.list("x", 0, 4), { length: 1 }, "an object and not a list"],
	["a list of the wrong length", (r) => r.list("x", 2), [{}], "a list of 1 and not a list of 2"],
	["a number in a list of objects", (r) => r.list("x", 1), [7], "thing.x[0]: 7 is no object"],
	["a hole in a list of objects", (r) => r.list("x", 1), new Array(1), "thing.x[0]: undefined is no object"],
])("StateReader refuses %s", (_what, read, x, message) => {
	const found = codeOf(() => read(reader({ x })));
	expect(found).toMatch(/^ERR_STATE_FORMAT Cannot restore thing/);
	expect(found).toContain(message);
});

test("StateReader refuses a field that is missing, also one that every object inherits", () => {
	expect(codeOf(() => reader({}).u8("x"))).toBe('ERR_STATE_FORMAT Cannot restore thing: "x" is missing');
	expect(codeOf(() => reader({}).object("constructor"))).toContain('"constructor" is missing');
});

test("StateReader refuses another version with a code of its own", () => {
	expect(codeOf(() => reader({ version: 2 }).version(1))).toBe(
		"ERR_STATE_VERSION Cannot restore thing: its state has version 2, this tsvmm reads version 1",
	);
	expect(codeOf(() => reader({ version: "1" }).version(1))).toContain("ERR_STATE_FORMAT");
});
