/*
 * A table of command lines, played in a lab with runc and with tsvmm-oci: output, errors and exit statuses are equal byte
 * by byte, but for what a row allows. After each row both hold as much of the host: processes, mounts, state directories.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../../src/host/native.ts";
import { LabCommands } from "../lab-commands.ts";

export interface Row {
	line: string;
	/** Standard output that each runtime may have in its own way, when it fits. */
	stdout?: RegExp;
	/** Standard error that each runtime may have in its own way, when it fits. */
	stderr?: RegExp;
	/** What tsvmm-oci prints, where runc is no measure: it does not play this row. */
	prints?: string;
}

interface Answer {
	status: number;
	stdout: string;
	stderr: string;
	/** What containers hold of the host then. */
	held: Record<string, number>;
}

type Played = Record<"runc" | "tsvmm-oci", Answer[]>;

/** How long all rows may take, on a host that others use, too. */
const TABLE_MS = 3_600_000;

/**
 * Declares a test for each row.
 *
 * @param rootless they are a user's own, not root's
 * @param systemd on a host that systemd runs
 */
export function testTable(rows: readonly Row[], { rootless = false, systemd = false } = {}): void {
	let lab: LabCommands;
	let played: Played;

	beforeAll(() => {
		execFileSync(process.execPath, [join(packageRoot(), "scripts/build-stand-in.mjs")]);
		lab = LabCommands.up();
		const table = join(lab.directory, "table.json");
		const plays = rows.map(({ line, prints }) => ({ line, runc: prints === undefined }));
		writeFileSync(table, JSON.stringify({ rows: plays, rootless, systemd }));
		const program = join(packageRoot(), "dist/tsvmm-oci.js");
		const script = (name: string) => [process.execPath, join(packageRoot(), "test/lab/oci", name)];
		const words = [...script("play.mjs"), table, program, "runc", "tsvmm-oci"];
		const output = lab.must("lab", "exec", "-q", "--", ...(systemd ? script("systemd.mjs") : []), ...words);
		played = JSON.parse(output) as Played;
	}, TABLE_MS);
	afterAll(() => lab.down());

	test.each(rows.map((row, i) => [row.line, i] as const))("%s", (_line, i) => {
		const row = rows[i]!;
		const found = played["tsvmm-oci"][i]!;
		const runc = played.runc[i]!;
		if (row.prints === undefined) {
			compare(row, found, runc);
			expect(found.held).toEqual(runc.held);
		} else {
			const stderr = row.stderr === undefined ? "" : found.stderr;
			compare(row, found, { ...found, status: 0, stdout: row.prints, stderr });
		}
		expect(found.held).toMatchObject({ machinesWithoutContainer: 0 });
	});

	test("at the end nothing is held", () => {
		expect(played["tsvmm-oci"].at(-1)!.held).toEqual(played.runc.at(-1)!.held);
	});
}

function compare(row: Row, found: Answer, wanted: Answer): void {
	expect(found.status, found.stderr).toBe(wanted.status);
	for (const name of ["stdout", "stderr"] as const) {
		const pattern = row[name];
		if (pattern === undefined) expect(plain(found[name])).toBe(plain(wanted[name]));
		else for (const one of [found, wanted]) expect(one[name]).toMatch(pattern);
	}
}

/** Without what differs each time, and the runtime's name. */
function plain(text: string): string {
	return text
		.replaceAll("tsvmm-oci", "runc")
		.replace(/\b[0-9a-f]{64}\b/g, "ID64")
		.replace(/time="[^"]*"/g, "time=NOW");
}
