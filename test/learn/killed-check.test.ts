/*
 * `tsvmm learn check` that is killed takes the student's program with it, also one that never looks up.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test, vi } from "vitest";
import { bundle, tsvmm } from "../cli/tsvmm.ts";

vi.setConfig({ testTimeout: 60_000 });
beforeAll(bundle, 60_000);

const MARK = `endless-${process.pid}.ts`;

/** Processes that have the program's name in their command line. */
function attempts(): string[] {
	const all = execFileSync("ps", ["-eo", "args="], { encoding: "utf8" }).split("\n");
	return all.filter((line) => line.includes("learn attempt") && line.includes(MARK));
}

test("learn check that is killed leaves no process of the program", async () => {
	const { status } = await tsvmm(["learn", "check", "3", MARK], {
		env: { TSVMM_LEARN_SECONDS: "30" },
		prepare: (directory) => writeFileSync(join(directory, MARK), 'console.error("busy"); for (;;);'),
		through: ["timeout", "-s", "KILL", "4"],
	});
	expect(status).not.toBe(1);
	await expect.poll(attempts).toEqual([]);
});
