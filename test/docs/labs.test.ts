/* The texts of the labs: each has its parts, and `tsvmm learn` finds what it needs in them. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { labDirectory, programName } from "../../src/learn/lab.ts";
import { LABS } from "../../src/learn/labs.ts";
import { firstStep } from "../../src/learn/text.ts";

const labs = join(packageRoot(), "docs/labs");
const PARTS = ["What you build", "Why real monitors do it so", "Read in tsvmm", "Steps", "What you will see", "Hints"];

test("the labs are numbered from 1, and the overview links each", () => {
	expect(LABS.map(({ number }) => number)).toEqual(LABS.map((_, index) => index + 1));
	const overview = readFileSync(join(labs, "README.md"), "utf8");
	for (const lab of LABS)
		expect(overview).toContain(`| [${lab.number}. ${lab.title}](${labDirectory(lab)}/README.md) `);
});

describe.each(LABS)("lab $number", (lab) => {
	const text = readFileSync(join(labs, labDirectory(lab), "README.md"), "utf8");

	test("has its parts in order, and three to five steps", () => {
		expect(text).toMatch(`# Lab ${lab.number}: ${lab.title}\n`);
		const found = [...text.matchAll(/^## (.*)$/gm)].map(([, title]) => title);
		expect(found.filter((title) => PARTS.includes(title!))).toEqual(PARTS);
		const steps = /^## Steps\n([\s\S]*?)^## /m.exec(text)![1]!.match(/^\d\. /gm)!;
		expect(steps.length).toBeGreaterThanOrEqual(3);
		expect(steps.length).toBeLessThanOrEqual(5);
		expect(firstStep(lab).length).toBeGreaterThan(20);
	});

	test("names places to read, hints, an expected failure and the student's file", () => {
		const read = /^## Read in tsvmm\n([\s\S]*?)^## /m.exec(text)![1]!;
		expect(read.match(/`(src|native|guests|test)\/[\w./-]+#/g)!.length).toBeGreaterThanOrEqual(2);
		expect(text.match(/<details><summary>/g)!.length).toBeGreaterThanOrEqual(2);
		expect(text).toMatch(/Expected (failure|crash)/);
		expect(text).toContain(programName(lab));
	});

	test("has a start file and a solution that say which lab they are", () => {
		for (const name of ["start.ts", "solution.ts"]) {
			const path = join(labs, labDirectory(lab), name);
			expect(existsSync(path)).toBe(true);
			expect(readFileSync(path, "utf8")).toMatch(new RegExp(`^/\\*\n \\* Lab ${lab.number}[:,]`));
		}
	});
});
