/*
 * `tsvmm doctor` says what this host can do and how to get what is missing. Its exit status is 0 when `run` works here,
 * directly or in the lab, and 1 otherwise.
 */
import { Command } from "commander";
import {
	checkAgent,
	checkIoUring,
	checkKernels,
	checkKoffi,
	checkKvm,
	checkMemory,
	checkNative,
	checkNode,
	checkPools,
	checkProcessor,
	checkSpace,
	checkTemplates,
	checkTools,
	checkTun,
	type Finding,
} from "./doctor-checks.ts";
import { printJson } from "./output.ts";

/** How `run` works here. */
export type Verdict = "direct" | "lab" | "none";

/** Decides by what is missing. */
export function judge(findings: readonly Finding[]): Verdict {
	const lacks = (needed: Finding["needed"]) =>
		findings.some((finding) => finding.status === "missing" && finding.needed === needed);
	if (lacks("run")) return "none";
	if (!lacks("direct")) return "direct";
	return lacks("lab") ? "none" : "lab";
}

const VERDICTS: Record<Verdict, string> = {
	direct: "VMs run directly on this host",
	lab: "VMs run in the lab (nested KVM in an emulated machine): slow, but the same",
	none: "VMs cannot run here; see what is missing above",
};

async function examine(): Promise<Finding[]> {
	return [
		checkNode(),
		checkNative(),
		checkKoffi(),
		checkProcessor(),
		checkKvm(),
		checkIoUring(),
		checkTun(),
		checkAgent(),
		...checkTools(),
		checkMemory(),
		checkSpace(),
		await checkKernels(),
		await checkTemplates(),
		await checkPools(),
	];
}

/** The report as text, one line per finding and one more for its remedy. */
export function formatFindings(findings: readonly Finding[], verdict: Verdict): string {
	const width = Math.max(...findings.map(({ name }) => name.length));
	const lines = findings.flatMap(({ name, status, found, remedy }) => {
		const line = `${status.padEnd(7)}  ${name.padEnd(width)}  ${found}`;
		return remedy === undefined ? [line] : [line, `${" ".repeat(width + 11)}-> ${remedy}`];
	});
	return `${lines.join("\n")}\n\n${VERDICTS[verdict]}\n`;
}

/** The command for main.ts. */
export function doctorCommand(): Command {
	return new Command("doctor")
		.description("what this host can do, and what is missing")
		.option("--json", "as JSON")
		.action(async ({ json = false }: { json?: boolean }) => {
			const findings = await examine();
			const verdict = judge(findings);
			if (json) printJson({ verdict, findings });
			else process.stdout.write(formatFindings(findings, verdict));
			process.exitCode = verdict === "none" ? 1 : 0;
		});
}
