/* The exercise and the lab that need a Linux guest, as printed. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { cacheDirectory } from "../../src/host/directories.ts";
import { packageRoot } from "../../src/host/native.ts";
import { checkText, labText } from "../learn/attempts.ts";
import { testInitrd } from "./initrd.ts";
import { Linux, testKernel } from "./linux.ts";
import { LabProgram } from "./program.ts";

let linux: Linux;
let program: LabProgram;
beforeAll(async () => {
	await ensureDemoImage("busybox");
	await testInitrd(await testKernel("6.1-cloud"));
	linux = await Linux.up("default");
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

test("lab 10: the solution is right in every line, as the text shows", async () => {
	/* It goes to the lab by itself, as on a host that runs no Linux guests. */
	const env = { TSVMM_HOST: "lab", TSVMM_CACHE: cacheDirectory() };
	const setting = { env, patienceMs: 240_000, seconds: 60 };
	const { status, findings } = await checkText(10, labText(10, "solution.ts"), setting);
	const lines = findings.map(({ text }) => `✓ ${text}\n`);
	expect(labText(10, "README.md")).toContain(`$ tsvmm learn check 10\n${lines.join("")}\nLab 10 is solved.`);
	expect(findings.filter(({ verdict }) => verdict !== "right")).toEqual([]);
	expect(status).toBe(0);
});
