/*
 * containerd with its own shim for runc and with ours, both in the lab: ctr's command lines give the same output, errors
 * and exit statuses, and neither leaves anything behind.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { LabCommands } from "./lab-commands.ts";

interface Played {
	rows: { line: string; status: number; stdout: string; stderr: string }[];
	left: string[];
}

/** The task "t" is there from one line to another. */
const ROWS = [
	"ctr run --rm IMAGE a sh -c 'echo out; echo err >&2; exit 3'",
	"ctr run --rm --cwd /tmp --env A=b --hostname box IMAGE b sh -c 'pwd; echo $A; hostname; id -u; cat /proc/1/comm'",
	/* ctr of containerd 1.6 tells nobody of an end that comes before the task is created. */
	"(sleep 9; head -c 100000 /usr/bin/busybox) | ctr run --rm IMAGE c md5sum",
	"ctr run -d IMAGE t sleep 1000",
	"ctr task ls | sed 's/[0-9][0-9]*/N/; s/  *$//; s/  */ /g'",
	"ctr task exec --exec-id 1 t sh -c 'echo in; echo err >&2; exit 9'",
	"(sleep 4; echo piped) | ctr task exec --exec-id 2 t cat",
	"ctr task exec --exec-id 3 --user 1000:1000 --cwd /tmp t sh -c 'pwd; id -u'",
	"ctr task pause t; ctr task ls | grep -o PAUSED; ctr task resume t; ctr task ls | grep -o RUNNING",
	"ctr task metrics t | grep -c pids.current",
	"ctr task ps t | wc -l",
	'ctr run -d IMAGE t sleep 1; ctr container info t | grep -c \'"ID": "t"\'',
	"ctr task rm t 2>&1 | grep -c 'must be stopped before deletion'",
	"ctr task kill -s KILL t; sleep 3; ctr task ls | grep -o STOPPED; ctr task rm t 2>/dev/null",
	"ctr container rm t; ctr container ls -q; ctr task ls -q",
];

let lab: LabCommands;
let runc: Played;
let ours: Played;

beforeAll(async () => {
	const image = await ensureDemoImage("busybox");
	execFileSync(process.execPath, [join(packageRoot(), "scripts/build-stand-in.mjs")]);
	lab = LabCommands.up();
	const archive = join(lab.directory, "image.tar");
	lab.must("save", "-o", archive, image);
	const table = join(lab.directory, "table.json");
	writeFileSync(table, JSON.stringify({ lines: ROWS }));
	const shim = join(packageRoot(), "dist/containerd-shim-tsvmm-v2.js");
	const play = join(packageRoot(), "test/lab/oci/play-ctr.mjs");
	const words = [process.execPath, play, table, archive, shim, "io.containerd.runc.v2", "io.containerd.tsvmm.v2"];
	const answers = JSON.parse(lab.must("lab", "exec", "-q", "--", ...words)) as Record<string, Played>;
	[runc, ours] = [answers["io.containerd.runc.v2"]!, answers["io.containerd.tsvmm.v2"]!];
});
afterAll(() => lab.down());

test.each(ROWS.map((line, i) => [line, i] as const))("%s", (_line, i) => {
	const { line: _, ...wanted } = runc.rows[i]!;
	expect(ours.rows[i]).toMatchObject(wanted);
});

test("no process, mount, socket or state is left", () => {
	expect(ours.left).toEqual([]);
});
