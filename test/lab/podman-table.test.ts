/*
 * tsvmm's command lines beside podman's: for each line of podman/rows.ts the same exit status, the same output, and an
 * error of the same sense. podman's answers were recorded by scripts/record-podman.mjs. Lines that start containers run in
 * one session of one lab, because each hand-over to the lab takes seconds. The others run on this machine.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { needsLab } from "../../src/lab/host.ts";
import { buildAgent } from "../agent/native-agent.ts";
import { COMMIT_ROWS, CREATE_ROWS, IMAGE_ROWS, type Row, RUN_ROWS } from "./podman/rows.ts";

interface Answer {
	line: string;
	status: number | null;
	stdout: string;
	stderr: string;
}

/** In the order of the answers. */
const ALL = [...IMAGE_ROWS, ...CREATE_ROWS, ...RUN_ROWS, ...COMMIT_ROWS];
const folder = join(packageRoot(), "test/lab/podman");
const program = join(packageRoot(), "dist/tsvmm.js");
const directory = mkdtempSync(join(tmpdir(), "tsvmm-table-"));
const env = { ...process.env, TSVMM_RUNTIME: `${directory}/run`, TSVMM_STATE: `${directory}/state` };
const recorded = JSON.parse(readFileSync(join(folder, "answers.json"), "utf8")) as { answers: Answer[] };
let image: string;

beforeAll(async () => {
	buildAgent();
	execFileSync(process.execPath, [join(packageRoot(), "scripts/bundle.mjs")]);
	image = await ensureDemoImage("busybox");
	mkdirSync(`${directory}/state`);
});
afterAll(() => {
	execFileSync(process.execPath, [program, "lab", "down"], { env });
	rmSync(directory, { recursive: true, force: true });
});

/** @param more variables of the environment */
function play(rows: readonly Row[], { inLab = false, more = {} }: { inLab?: boolean; more?: object } = {}): Answer[] {
	const table = join(directory, "table.json");
	const environment = { IMAGE: image, NETWORK: "", ...more };
	writeFileSync(table, JSON.stringify({ lines: rows.map(({ line }) => line), environment }));
	const words = [process.execPath, join(folder, "play.mjs"), table, directory, process.execPath, "--", program];
	const [command, ...args] = inLab ? [process.execPath, program, "lab", "exec", "-q", "--", ...words] : words;
	const output = execFileSync(command!, args, { env, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
	return JSON.parse(output.replaceAll(directory, "DIR")) as Answer[];
}

/** What differs from podman's answers, or from Docker's where the table has them. */
function differences(rows: readonly Row[], answers: readonly Answer[]): unknown[] {
	const offset = ALL.indexOf(rows[0]!);
	return rows.flatMap(({ line, says, status, stdout }, i) => {
		const podman = recorded.answers[offset + i];
		if (podman?.line !== line) return [{ line, faults: ["podman's answer is missing: run scripts/record-podman.mjs"] }];
		const found = answers[i]!;
		const faults: string[] = [];
		const wantedStatus = status ?? podman.status;
		if (found.status !== wantedStatus) faults.push(`status ${found.status}, wanted ${wantedStatus}`);
		const output = plain(found.stdout);
		const fits = stdout instanceof RegExp ? stdout.test(output) : output === (stdout ?? plain(podman.stdout));
		if (stdout !== null && !fits) faults.push(`output ${output}, wanted ${stdout ?? plain(podman.stdout)}`);
		if (says === undefined ? plain(found.stderr) !== plain(podman.stderr) : !says.test(found.stderr)) {
			faults.push(`stderr ${found.stderr}, podman's ${podman.stderr}`);
		}
		if (says !== undefined && !says.test(podman.stderr)) faults.push(`podman does not say so: ${podman.stderr}`);
		return faults.length === 0 ? [] : [{ line, faults }];
	});
}

/** Without what differs each time. */
function plain(text: string): string {
	return text.replace(/\b[0-9a-f]{64}\b/g, "ID64").replace(/\b[0-9a-f]{12}\b/g, "ID12");
}

test("command lines on images do what podman's do", () => {
	const cache = join(directory, "cache");
	mkdirSync(cache);
	execFileSync(process.execPath, [program, "save", "-o", `${directory}/busybox.tar`, image], { env });
	const load = ["load", "-i", `${directory}/busybox.tar`];
	execFileSync(process.execPath, [program, ...load], { env: { ...env, TSVMM_CACHE: cache } });
	expect(differences(IMAGE_ROWS, play(IMAGE_ROWS, { more: { TSVMM_CACHE: cache } }))).toEqual([]);
});

test("command lines on containers that do not run do what podman's do", () => {
	/* No machine is started, so no KVM is needed. */
	expect(differences(CREATE_ROWS, play(CREATE_ROWS, { more: { TSVMM_HOST: "direct" } }))).toEqual([]);
});

test("command lines on containers that run do what podman's do", () => {
	/* What takes writing is prepared here, and the lab comes up. */
	execFileSync(process.execPath, [program, "run", "-q", "--rm", image, "true"], { env });
	expect(differences(RUN_ROWS, play(RUN_ROWS, { inLab: needsLab() }))).toEqual([]);
});

test("images of what containers have changed are what podman's are", () => {
	try {
		expect(differences(COMMIT_ROWS, play(COMMIT_ROWS))).toEqual([]);
	} finally {
		/* The store is the user's. */
		spawnSync(process.execPath, [program, "rmi", "-f", "localhost/table:v1"], { env });
	}
});
