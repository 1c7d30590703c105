/*
 * containerd with its own shim for runc and with ours, both in the lab: ctr's command lines give the same output, errors
 * and exit statuses, and neither leaves anything behind.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { LabCommands } from "./lab-commands.ts";
import { ROWS } from "./oci/ctr-rows.ts";
import { prepareShim } from "./oci/shim-files.ts";
import { LabProgram } from "./program.ts";

interface Played {
	rows: { line: string; status: number; stdout: string; stderr: string }[];
	left: string[];
}

/** Far more than it takes where nothing else runs. */
const PLAY_MS = 1_800_000;

let lab: LabCommands;
let program: LabProgram;
let runc: Played;
let ours: Played;

beforeAll(async () => {
	const image = await prepareShim();
	program = await LabProgram.bundle("play-ctr", "test/lab/oci");
	lab = LabCommands.up();
	const archive = join(lab.directory, "image.tar");
	lab.must("save", "-o", archive, image);
	const table = join(lab.directory, "table.json");
	writeFileSync(table, JSON.stringify({ lines: ROWS.map(({ line }) => line) }));
	const shim = join(packageRoot(), "dist/containerd-shim-tsvmm-v2.js");
	const words = [...program.command, table, archive, shim, "io.containerd.runc.v2", "io.containerd.tsvmm.v2"];
	const answers = JSON.parse(lab.must("lab", "exec", "-q", "--", ...words)) as Record<string, Played>;
	[runc, ours] = [answers["io.containerd.runc.v2"]!, answers["io.containerd.tsvmm.v2"]!];
}, PLAY_MS);
afterAll(() => {
	lab?.down();
	program?.remove();
});

/** Without the time, and the runtime's name. */
function plain(text: string): string {
	return text.replaceAll("tsvmm-oci", "runc").replaceAll(/^time="[^"]*"/gm, "");
}

test.each(ROWS.map((row, i) => [row.line, i] as const))("%s", (_line, i) => {
	const [found, wanted] = [ours.rows[i]!, runc.rows[i]!];
	const { stderr } = ROWS[i]!;
	expect({ status: found.status, stdout: found.stdout }, found.stderr).toEqual({
		status: wanted.status,
		stdout: wanted.stdout,
	});
	if (stderr === undefined) expect(plain(found.stderr)).toBe(plain(wanted.stderr));
	else for (const one of [found, wanted]) expect(one.stderr).toMatch(stderr);
});

test("no process, mount, socket, namespace, group or state is left", () => {
	expect(ours.left).toEqual(runc.left);
});
