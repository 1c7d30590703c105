/*
 * `npm test`: from a fresh clone to the last test in the lab.
 *
 *     node scripts/test.mjs [PHASE ...] [-- VITEST-ARGUMENT ...]
 *
 * Phases, in order: check, unit, guest (bare-metal guests on this machine's /dev/kvm; where it has none, in the lab),
 * lab (real Linux in nested KVM; slow). All of them when none is named. Nothing is skipped: where a phase cannot run, the
 * test has failed.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { check } from "./check.mjs";
import { setup } from "./setup.mjs";
import { execute, formatMs, main, must, root, StepError, say, step } from "./steps.mjs";

const PHASES = ["check", "unit", "guest", "lab"];
const FLAVOURS = ["6.1-amd64", "6.1-cloud", "6.12-cloud"];

/**
 * What the lab's tests boot: kernels, images, then a machine for containers. All but that is cached. It takes only the time of the processors that
 * nothing else wants, because other phases run meanwhile.
 */
async function prepareLab() {
	const tsvmm = join(root, "dist/tsvmm.js");
	const idly = (words, env) => must("nice", ["-n", "19", process.execPath, ...words], { quiet: true, env });
	for (const flavour of FLAVOURS) {
		await step("test", async () => {
			const output = await idly([tsvmm, "kernel", "fetch", "--flavour", flavour]);
			return output.trim().includes("\n") ? `fetched kernel ${flavour}` : undefined;
		});
	}
	await step("test", async () => {
		const output = await idly([tsvmm, "kernel", "build"]);
		return output.trim().includes("\n") ? "built the minimal kernel" : undefined;
	});
	await step("test", async () => {
		const output = await idly(["scripts/build-images.mjs"]);
		return output.trim() === "" ? undefined : "built the test images";
	});
	await step("test", () => bootTemplate(idly, tsvmm));
}

/** Keeps a machine that has booted in the lab: containers of the tests go on from there. None is left that another tsvmm has made. */
async function bootTemplate(idly, tsvmm) {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
	const env = { TSVMM_RUNTIME: directory };
	const make = `"$0" "$1" template rm --all; exec "$0" "$1" template make`;
	try {
		await idly([tsvmm, "lab", "exec", "-q", "--", "sh", "-c", make, process.execPath, tsvmm], env);
	} finally {
		await idly([tsvmm, "lab", "down"], env);
		rmSync(directory, { recursive: true });
	}
	return "booted a machine for containers";
}

/** Whether this machine's /dev/kvm can be opened. */
function hasKvm() {
	try {
		closeSync(openSync("/dev/kvm", "r+"));
		return true;
	} catch {
		return false;
	}
}

/** The command that runs a program in the lab, one worker for its one processor. */
function inLab(program, args) {
	say("test", "this machine has no usable /dev/kvm: its bare-metal guests run in the lab");
	return [process.execPath, join(root, "dist/tsvmm.js"), "lab", "exec", "--", program, ...args, "--maxWorkers=1"];
}

/** Runs one phase's tests. In CI a test that was left out (it wants root, a loop device) is a failure. */
async function runTests(phase, extra) {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
	try {
		const report = join(directory, "report.json");
		const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
		const args = ["run", "--project", phase, ...reporters, ...extra];
		const vitest = join(root, "node_modules/.bin/vitest");
		const [command, ...words] = phase === "guest" && !hasKvm() ? inLab(vitest, args) : [vitest, ...args];
		const { status } = await execute(command, words);
		if (status !== 0) throw new StepError(`vitest has ended with status ${status}`);
		const tests = JSON.parse(readFileSync(report, "utf8")).testResults.flatMap((file) => file.assertionResults);
		const left = tests.filter((one) => one.status !== "passed").map((one) => one.fullName);
		if (left.length === 0) return;
		if (process.env.CI) throw new StepError(`left out in CI: ${left.join("; ")}`);
		say("test", `left out here: ${left.join("; ")}`);
	} finally {
		rmSync(directory, { recursive: true });
	}
}

async function test(args) {
	const split = args.indexOf("--");
	const named = split < 0 ? args : args.slice(0, split);
	const extra = split < 0 ? [] : args.slice(split + 1);
	const unknown = named.filter((phase) => !PHASES.includes(phase));
	if (unknown.length > 0) throw new StepError(`no such phase: ${unknown.join(", ")}; known are ${PHASES.join(", ")}`);
	const phases = PHASES.filter((phase) => named.length === 0 || named.includes(phase));
	await setup();
	const labIsReady = phases.includes("lab") ? prepareLab() : undefined;
	/* Its failure is the lab phase's. */
	labIsReady?.catch(() => undefined);
	const failed = [];
	for (const phase of phases) {
		const start = performance.now();
		try {
			if (phase === "check") await check();
			else {
				if (phase === "lab") await labIsReady;
				await runTests(phase, extra);
			}
		} catch (error) {
			if (!(error instanceof StepError)) throw error;
			say("test", `${phase}: ${error.message}`);
			failed.push(phase);
		}
		const verdict = failed.includes(phase) ? "FAILED" : "passed";
		say("test", `${phase} ${verdict} (${formatMs(performance.now() - start)})`);
	}
	if (failed.length > 0) throw new StepError(`failed: ${failed.join(", ")}`);
}

await main("test", () => test(process.argv.slice(2)));
