/*
 * Exercise 1 prints what its page says. Needs /dev/kvm.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";

it("docs/exercises/kvm-hello.ts prints what kvm-hello.md shows", () => {
	const page = readFileSync("docs/exercises/kvm-hello.md", "utf8");
	const expected = /\$ npx tsx docs\/exercises\/kvm-hello\.ts\n([^`]*)```/.exec(page)?.[1];
	expect(execFileSync("npx", ["tsx", "docs/exercises/kvm-hello.ts"], { encoding: "utf8" })).toBe(expected);
});
