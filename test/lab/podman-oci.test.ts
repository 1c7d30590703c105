/*
 * The same podman, the same command lines: with runc and with tsvmm-oci, both in the lab. Output, errors and exit statuses
 * are equal byte by byte, but for what a row allows, and neither leaves anything behind.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { LabCommands } from "./lab-commands.ts";
import { ROWS } from "./oci/rows.ts";

interface Answer {
	line: string;
	status: number;
	stdout: string;
	stderr: string;
	ms: number;
}

interface Played {
	rows: Answer[];
	left: string[];
}

let lab: LabCommands;
let runc: Played;
let ours: Played;

beforeAll(() => {
	execFileSync(process.execPath, [join(packageRoot(), "scripts/build-stand-in.mjs")]);
	lab = LabCommands.up();
	const table = join(lab.directory, "table.json");
	writeFileSync(table, JSON.stringify({ lines: ROWS.map(({ line }) => line) }));
	const program = join(packageRoot(), "dist/tsvmm-oci.js");
	const play = join(packageRoot(), "test/lab/oci/play.mjs");
	const output = lab.must("lab", "exec", "-q", "--", process.execPath, play, table, program, "runc", "tsvmm-oci");
	({ runc, "tsvmm-oci": ours } = JSON.parse(output) as { runc: Played; "tsvmm-oci": Played });
});
afterAll(() => lab.down());

/** Without what differs each time, and the runtime's name. */
function plain(text: string): string {
	return text.replaceAll("tsvmm-oci", "runc").replace(/\b[0-9a-f]{64}\b/g, "ID64");
}

test.each(ROWS.map((row, i) => [row.line, i] as const))("%s", (_line, i) => {
	const { stdout, stderr, prints } = ROWS[i]!;
	const found = ours.rows[i]!;
	const wanted = prints === undefined ? runc.rows[i]! : { status: 0, stdout: prints, stderr: "" };
	expect(found.status).toBe(wanted.status);
	for (const [name, pattern] of [
		["stdout", stdout],
		["stderr", stderr],
	] as const) {
		if (pattern === undefined) expect(plain(found[name])).toBe(plain(wanted[name]));
		else for (const one of [found, wanted]) expect(one[name]).toMatch(pattern);
	}
});

test("no process, mount, namespace, interface or state is left", () => {
	expect(ours.left).toEqual(runc.left);
});
