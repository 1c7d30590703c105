/*
 * Attempts at a lab, checked as a student checks them: by the real command line. A wrong attempt is the solution with one
 * mistake in it, given as the text that it has instead of another.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { labDirectory } from "../../src/learn/lab.ts";
import { findLab } from "../../src/learn/labs.ts";
import type { Finding } from "../../src/learn/report.ts";
import { bundle, type Setting, tsvmm } from "../cli/tsvmm.ts";

/** A mistake: what it is, how the solution is changed, and what the check says first. */
export interface Mistake {
	readonly what: string;
	/** Text of the solution, and what stands there instead. */
	readonly edits: readonly (readonly [from: string, to: string])[];
	readonly finding: string | RegExp;
	/** What it says to do, if that is of interest. */
	readonly hint?: string | RegExp;
	/** The program never ends: the check is to wait a few seconds only. Any other gets as long as a busy machine needs. */
	readonly hangs?: boolean;
}

/** What `tsvmm learn check --json` prints. */
export interface Checked {
	readonly status: number | "hung";
	readonly solved: boolean;
	readonly findings: readonly Finding[];
	readonly output: string;
}

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 120_000 });

const directory = mkdtempSync(join(tmpdir(), "tsvmm-learn-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
let count = 0;

/** The text of a file of a lab. */
export function labText(number: number, name: string): string {
	return readFileSync(join(packageRoot(), "docs/labs", labDirectory(findLab(String(number))), name), "utf8");
}

/** How a check is run. */
export interface CheckSetting extends Pick<Setting, "through" | "env" | "patienceMs"> {
	/** How long the check waits for one call; 25 when missing. */
	readonly seconds?: number;
}

/** Checks a program of this text. */
export async function checkText(number: number, text: string, setting: CheckSetting = {}): Promise<Checked> {
	const path = join(directory, `program-${count++}.ts`);
	writeFileSync(path, text);
	const state = join(directory, "state");
	const { status, stdout, stderr } = await tsvmm(["learn", "check", String(number), path, "--json"], {
		...setting,
		env: { TSVMM_STATE: state, TSVMM_LEARN_SECONDS: String(setting.seconds ?? 25), ...setting.env },
	});
	expect(stderr).toBe("");
	return { ...JSON.parse(stdout), status };
}

const MARKS = { right: "✓", wrong: "✗" };

/** As the command prints them. What this host cannot check is not in the text. */
function linesOf(findings: readonly Finding[]): string {
	const lines = findings.flatMap(({ verdict, text, hint }) => {
		if (verdict === "open") return [];
		return [`${MARKS[verdict]} ${text}`, ...(hint === undefined ? [] : [`    ${hint}`])];
	});
	return lines.join("\n");
}

/** The solution with a mistake. Each edit must find its place. */
function withMistake(number: number, { edits }: Mistake): string {
	return edits.reduce(
		(text, [from, to]) => {
			expect(text.split(from).length, `${from} is in the solution`).toBeGreaterThan(1);
			return text.replace(from, () => to);
		},
		labText(number, "solution.ts"),
	);
}

/** The tests that each lab has. @param upTo what of the solution this host cannot run; nothing when missing */
export function labSuite(number: number, mistakes: readonly Mistake[], upTo?: RegExp): void {
	beforeAll(bundle, 60_000);

	describe(`lab ${number}`, () => {
		test(`the solution is right in every line${upTo === undefined ? "" : " that this host can check"}, as the text shows`, async () => {
			const { findings, status, solved } = await checkText(number, labText(number, "solution.ts"));
			const right = findings.filter(({ verdict }) => verdict !== "wrong");
			expect(labText(number, "README.md")).toContain(`$ tsvmm learn check ${number}\n${linesOf(right)}`);
			const wrong = findings.filter(({ verdict }) => verdict === "wrong");
			expect(wrong).toEqual(upTo === undefined ? [] : [{ ...wrong[0], text: expect.stringMatching(upTo) }]);
			expect({ status, solved }).toEqual(
				upTo === undefined ? { status: 0, solved: true } : { status: 1, solved: false },
			);
		});

		test("the start file loads, and is told its first step, as the text shows", async () => {
			const { status, solved, findings } = await checkText(number, labText(number, "start.ts"));
			expect(labText(number, "README.md")).toContain(`$ tsvmm learn check ${number}\n${linesOf(findings)}`);
			expect({ status, solved }).toEqual({ status: 1, solved: false });
			const wrong = findings.find(({ verdict }) => verdict === "wrong")!;
			expect(wrong.text).not.toMatch(/throws|ended in the middle|keeps its thread/);
			expect(wrong.hint).toMatch(/^[A-Z]/);
		});

		const answers = async (mistake: Mistake) => {
			const { status, findings } = await checkText(
				number,
				withMistake(number, mistake),
				mistake.hangs === true ? { seconds: 8 } : {},
			);
			const wrong = findings.find(({ verdict }) => verdict === "wrong");
			expect(wrong?.text).toMatch(mistake.finding);
			if (mistake.hint !== undefined) expect(wrong?.hint).toMatch(mistake.hint);
			expect(status).toBe(1);
		};
		test.each(mistakes.filter(({ hangs }) => hangs !== true))("$what", answers);
		/* They only wait. */
		test.concurrent.each(mistakes.filter(({ hangs }) => hangs === true))("$what", answers);
	});
}
