/*
 * Templates: containers whose machines are made of one that has booted. Clones of it have nothing in common that is to be
 * secret.
 */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cacheDirectory } from "../../src/host/directories.ts";
import { packageRoot } from "../../src/host/native.ts";
import { LabCommands } from "./lab-commands.ts";

let lab: LabCommands;
beforeAll(() => {
	lab = LabCommands.up();
});
afterAll(() => lab.down());

test("two containers run in machines of one template, and differ in all that is random; a damaged one is removed", () => {
	const script = join(packageRoot(), "test/lab/template.sh");
	const words = ["sh", script, process.execPath, packageRoot(), cacheDirectory()];
	const output = lab.must("lab", "exec", "-q", "--", ...words);
	expect(output.trim().split("\n")).toEqual([
		...["before 0", "made 1 2"],
		...["status 3", "status 3", "used 2", "lines 8", "different 6", "clock right", "clock right"],
		...["status 3", "lines 4", "after 0", "left"],
	]);
});
