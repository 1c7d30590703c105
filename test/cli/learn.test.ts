/* tsvmm learn: lists, begins and checks labs, and remembers which are solved. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test, vi } from "vitest";
import { LABS } from "../../src/learn/labs.ts";
import { labText } from "../learn/attempts.ts";
import { bundle, expectError, tsvmm, write } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 60_000 });
beforeAll(bundle, 60_000);

/** A state directory inside the working directory of one call. */
const inWork = { TSVMM_STATE: "state" };

test("learn: lists the labs, and names the next one", async () => {
	const { status, stdout } = await tsvmm(["learn"], { env: inWork });
	expect(status).toBe(0);
	for (const { title } of LABS) expect(stdout).toContain(title);
	expect(stdout).toMatch(/^ {3}1 {2}hello from \/dev\/kvm\n/);
	expect(stdout).toContain("Begin the next one: tsvmm learn 1\n");
});

test("learn N: puts the start file here, names text and first step, and never overwrites", async () => {
	let copied = "";
	const first = await tsvmm(["learn", "3"], {
		prepare: (directory) => {
			copied = join(directory, "lab-03-serial.ts");
		},
		onEnd: () => expect(readFileSync(copied, "utf8")).toBe(labText(3, "start.ts")),
	});
	expect(first).toMatchObject({ status: 0, left: ["lab-03-serial.ts"] });
	expect(first.stdout).toMatch(/text {10}\/.*\/docs\/labs\/03-serial\/README\.md\n/);
	expect(first.stdout).toMatch(/first step {4}Let SCR keep its byte/);
	const again = await tsvmm(["learn", "3"], {
		prepare: write("lab-03-serial.ts", "mine"),
		onEnd: () => undefined,
	});
	expect(again.stdout).toContain("it was here already, and stays as it is");
});

test("learn check: a solved lab is remembered, and a damaged progress file is none", async () => {
	const checked = await tsvmm(["learn", "check", "3"], {
		prepare: write("lab-03-serial.ts", labText(3, "solution.ts")),
		env: inWork,
		through: ["sh", "-c", '"$@" && exec "$1" "$2" "$3" learn --json', "sh"],
	});
	expect(checked.status).toBe(0);
	expect(checked.stdout).toContain("\nLab 3 is solved.");
	const listed = JSON.parse(checked.stdout.slice(checked.stdout.indexOf("\n[") + 1));
	expect(listed.filter(({ solved }: { solved: boolean }) => solved)).toEqual([
		{ number: 3, title: "a serial port", solved: true },
	]);
	const damaged = await tsvmm(["learn"], {
		prepare: (directory) => writeFileSync(join(directory, "learn.json"), "{"),
		env: { TSVMM_STATE: "." },
	});
	expect(damaged.stdout).not.toContain("✓");
});

test("learn check: what the program prints is shown, and cannot speak to the terminal", async () => {
	const text =
		'console.log("here \\u001b[31m I am");\nexport class SerialPort { constructor() { throw new Error("not yet"); } }\n';
	const { status, stdout } = await tsvmm(["learn", "check", "3", "x.ts"], { prepare: write("x.ts", text) });
	expect(status).toBe(1);
	expect(stdout).toContain("✗ SerialPort throws in line 2: not yet\n");
	expect(stdout).toContain("Your program printed:\n    here \\x1b[31m I am\n");
});

test.each([
	["const a = ;\n", /^✗ The program does not load: line 1:\d+: Unexpected token/],
	['import { Disc } from "tsvmm/virtio";\nconsole.log(Disc);\n', /^✗ The program throws .*'Disc'/],
	["await new Promise(() => undefined);\n", /^✗ The program has nothing left to do, but a promise of it never settles/],
	["process.kill(process.pid, 'SIGKILL');\n", /^✗ The program's process has ended in the middle of the check/],
	["export const SerialPort = 3;\n", /^✗ The program exports no class SerialPort: it exports SerialPort/],
	["", /^✗ The program exports no class SerialPort: it exports nothing/],
])("learn check: a program of %j gets an answer", async (text, answer) => {
	const { status, stdout } = await tsvmm(["learn", "check", "3", "x.ts"], { prepare: write("x.ts", text) });
	expect(stdout).toMatch(answer);
	expect(status).toBe(1);
});

test("learn: a lab or a file that is not there is refused", async () => {
	expectError(
		await tsvmm(["learn", "77"]),
		"ERR_LEARN_LAB",
		`Cannot find lab "77": there are labs 1 to ${LABS.length}`,
		"See tsvmm learn",
	);
	expectError(
		await tsvmm(["learn", "check", "3"]),
		"ERR_LEARN_PROGRAM",
		"Cannot check lab-03-serial.ts: no such file",
		"Run tsvmm learn 3, or name your file: tsvmm learn check 3 FILE",
	);
});
