/* The exercise that needs a Linux guest, as printed. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { testInitrd } from "./initrd.ts";
import { Linux, testKernel } from "./linux.ts";
import { LabProgram } from "./program.ts";

let linux: Linux;
let program: LabProgram;
beforeAll(async () => {
	await testInitrd(await testKernel("6.1-cloud"));
	linux = await Linux.up("exercises");
	program = await LabProgram.bundle("own-rng", "docs/exercises");
});
afterAll(async () => {
	program?.remove();
	await linux?.down();
});

test("docs/exercises/own-rng.ts: Linux reads from a device of one's own, as own-rng.md shows", async () => {
	const page = readFileSync(join(packageRoot(), "docs/exercises/own-rng.md"), "utf8");
	const expected = /\$ npx tsx docs\/exercises\/own-rng\.ts\n([^`]*)```/.exec(page)?.[1];
	const { status, stdout, stderr } = await linux.lab.exec(program.command, { timeoutMs: 240_000 });
	expect({ status, stderr: String(stderr) }).toEqual({ status: 0, stderr: "" });
	/* Leaves out the kernel's messages, which begin with their time. */
	const printed = String(stdout)
		.replaceAll("\r", "")
		.replace(/^\[ *\d+\.\d+\] .*\n/gm, "");
	expect(printed.slice(printed.indexOf("@@script@@"))).toBe(expected);
});
