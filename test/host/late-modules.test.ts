/*
 * Modules of Node that are loaded late.
 */
import { expect, test, vi } from "vitest";
import { requireLate } from "../../src/host/late-modules.ts";

test("requireLate loads a module when something of it is used, and once", () => {
	const load = vi.fn((name: string): unknown => ({ name, answer: 42 }));
	const late = requireLate(load);
	const [one, two] = [late("node:net"), late("node:net")] as { answer: number }[];
	expect(load).not.toHaveBeenCalled();
	expect([one!.answer, two!.answer, "answer" in one!]).toEqual([42, 42, true]);
	expect({ ...one }).toEqual({ name: "node:net", answer: 42 });
	expect(one).toBe(two);
	expect(load.mock.calls).toEqual([["node:net"]]);
});

test("requireLate loads all other modules at once", () => {
	const load = vi.fn((name: string): unknown => name);
	expect(requireLate(load)("node:fs")).toBe("node:fs");
	expect(load).toHaveBeenCalledTimes(1);
});
