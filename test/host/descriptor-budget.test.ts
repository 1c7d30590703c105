/* Guests hold descriptors up to a number that leaves some for the machine. */
import { execFileSync } from "node:child_process";
import { closeSync, fstatSync, openSync } from "node:fs";
import { expect, test } from "vitest";
import { DescriptorBudget, raiseDescriptorLimit } from "../../src/host/descriptor-budget.ts";

test("DescriptorBudget closes what a guest may not hold, and takes more when it has given some back", () => {
	const budget = new DescriptorBudget(514);
	const open = () => openSync("/dev/null", "r");
	const held = Array.from({ length: 257 }, () => {
		const fd = open();
		budget.hold(fd);
		return fd;
	});
	const refused = open();
	expect(() => budget.hold(refused)).toThrow(expect.objectContaining({ code: "EMFILE" }));
	expect(() => fstatSync(refused)).toThrow("EBADF");
	budget.give();
	budget.hold(held[0]!);
	for (const fd of held) closeSync(fd);
});

test("raiseDescriptorLimit raises the limit to what this process may have", () => {
	const limit = raiseDescriptorLimit();
	expect(execFileSync("sh", ["-c", "ulimit -n"], { encoding: "utf8" })).toBe(`${limit}\n`);
	expect(raiseDescriptorLimit()).toBe(limit);
});
