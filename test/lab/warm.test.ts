/*
 * Containers of `tsvmm run` in machines that are made of a template: the first one boots, and the template is made
 * meanwhile. What a container finds is the same, but for all that is to differ. Two take machines of a pool.
 */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { cacheDirectory } from "../../src/host/directories.ts";
import { packageRoot } from "../../src/host/native.ts";
import { LabCommands } from "./lab-commands.ts";

let lab: LabCommands;
let image: string;
beforeAll(async () => {
	lab = LabCommands.up();
	image = await ensureDemoImage("busybox");
});
afterAll(() => lab.down());

test("run makes a template in the background, and later containers start from it, with all that they have", () => {
	const script = join(packageRoot(), "test/lab/warm.sh");
	const words = ["sh", script, process.execPath, packageRoot(), cacheDirectory(), image];
	const output = lab.must("lab", "exec", "-q", "--", ...words);
	expect(output.trim().split("\n")).toEqual([
		"cold: 0 kernel, makers 0, templates 0",
		"first: 3 kernel, lines 5",
		"made: templates 1",
		"second: 3 restore, lines 5",
		"started again: 3 runs 2 from the host",
		/* Two random numbers of each, and two names. */
		"different: 8, names on the host 2",
		"the name stays",
		"uses: 1",
		"served: from the host",
		"damaged: 4 kernel 1",
		"left: 1",
		"by hand: 1 1",
		"pool: 2 of 2",
		"taken: 2, pools 0",
		/* Of each its name and a random number. */
		"lines 8, different 6",
		"left: 0",
	]);
});

test("a container that was saved goes on as two others, which lose nothing of it, and it goes on itself", () => {
	const script = join(packageRoot(), "test/lab/saved.sh");
	const output = lab.must("lab", "exec", "-q", "--", "sh", script, process.execPath, packageRoot(), image);
	expect(output.trim().split("\n")).toEqual([
		"two: whole sh kept kept",
		"three: whole sh kept kept",
		"first numbers: 1",
		"random numbers: 2",
		"one: whole, more than before 1",
		"later: exited 137, less memory 1",
		"four: whole sh kept kept, goes on 1",
		"stopped: 3",
		"left: 0 0",
	]);
});
