/*
 * `tsvmm learn`: ten labs in which a student builds a virtual machine monitor. Without a word it lists them, with a number
 * it begins one, and `check` says what is right and what is missing. The checks are in src/learn.
 */
import { constants, copyFileSync, existsSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { Command } from "commander";
import { errnoName, explain, HostError, UsageError } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import type { PackageModules } from "../host/user-module.ts";
import { needsLab, reexecInLab } from "../lab/host.ts";
import { fileShare } from "../lab/shares.ts";
import { runAttempt } from "../learn/attempt-process.ts";
import { check } from "../learn/check.ts";
import { type Lab, programName } from "../learn/lab.ts";
import { findLab, LABS } from "../learn/labs.ts";
import { markSolved, solvedLabs } from "../learn/progress.ts";
import type { Finding } from "../learn/report.ts";
import { firstStep, labFile } from "../learn/text.ts";
import { printJson } from "./output.ts";

/** The command for main.ts. @param modules what students' programs import */
export function learnCommand(modules: PackageModules): Command {
	const command = new Command("learn")
		.description("ten labs: build a virtual machine monitor, step by step")
		.argument("[number]", "the lab to begin; without it the labs are listed")
		.option("--json", "print as JSON")
		.action(async (number: string | undefined, { json = false }: { json?: boolean }) => {
			if (number === undefined) list(json);
			else begin(findLab(number), json);
		});
	command
		.command("check")
		.description("say what is right and what is missing; status 0 when the lab is solved, 1 when it is not")
		.argument("<number>", "the lab")
		.argument("[file]", "your program (default: what `tsvmm learn` has made here)")
		.option("--json", "print as JSON")
		.action(async (number: string, file: string | undefined, flags: { json?: boolean }) => {
			/* commander gives an option that both commands have to the outer one. */
			const { json = false } = { ...command.opts<{ json?: boolean }>(), ...flags };
			process.exitCode = await checkProgram(findLab(number), file, json);
		});
	command
		.command("attempt", { hidden: true })
		.description("run a program for `check`, which listens")
		.argument("<number>")
		.argument("<file>")
		.action(async (number: string, file: string) => await runAttempt(findLab(number), file, modules));
	return command;
}

function list(json: boolean): void {
	const solved = solvedLabs();
	if (json) {
		printJson(LABS.map((lab) => ({ number: lab.number, title: lab.title, solved: solved.includes(lab.number) })));
		return;
	}
	const next = LABS.find(({ number }) => !solved.includes(number));
	const lines = LABS.map(({ number, title }) => {
		const mark = solved.includes(number) ? "✓" : " ";
		return `${mark} ${String(number).padStart(2)}  ${title}`;
	});
	const last = next === undefined ? "You have solved them all." : `Begin the next one: tsvmm learn ${next.number}`;
	process.stdout.write(`${lines.join("\n")}\n\n${last}\n`);
}

function begin(lab: Lab, json: boolean): void {
	const file = programName(lab);
	const text = labFile(lab, "README.md");
	const isNew = copyStart(labFile(lab, "start.ts"), file);
	if (json) {
		printJson({ number: lab.number, title: lab.title, text, file: resolve(file), isNew });
		return;
	}
	const lines = [
		`Lab ${lab.number}: ${lab.title}`,
		`  text          ${text}`,
		`  your program  ${file}${isNew ? "" : " (it was here already, and stays as it is)"}`,
		`  first step    ${firstStep(lab)}`,
		`  check it      tsvmm learn check ${lab.number}`,
	];
	process.stdout.write(`${lines.join("\n")}\n`);
}

/** Never overwrites. @returns whether it is new */
function copyStart(from: string, to: string): boolean {
	try {
		copyFileSync(from, to, constants.COPYFILE_EXCL);
		return true;
	} catch (error) {
		if (errnoName(error) === "EEXIST") return false;
		throw new HostError("ERR_LEARN_FILE", `Cannot write ${to}: ${explain(error)}`, {
			hint: "Run it in a directory that you can write",
			cause: error,
		});
	}
}

const MARKS: Record<Finding["verdict"], string> = { right: "✓", wrong: "✗", open: "-" };
const MOST_LINES = 20;

async function checkProgram(lab: Lab, given: string | undefined, json: boolean): Promise<number> {
	const file = resolve(given ?? programName(lab));
	if (!existsSync(file)) {
		throw new UsageError("ERR_LEARN_PROGRAM", `Cannot check ${relative(".", file)}: no such file`, {
			hint: `Run tsvmm learn ${lab.number}, or name your file: tsvmm learn check ${lab.number} FILE`,
		});
	}
	if (lab.needsKvm && !existsSync("/dev/kvm")) {
		throw new HostError("ERR_KVM_MISSING", "Cannot open /dev/kvm: this host has no KVM", {
			hint: `Run it in the lab: tsvmm lab exec -- tsvmm learn check ${lab.number}`,
		});
	}
	if (lab.bootsLinux && needsLab()) {
		const words = ["learn", "check", String(lab.number), file, ...(json ? ["--json"] : [])];
		return await reexecInLab(words, { quiet: json, shares: [fileShare(dirname(file), "ro")] });
	}
	const result = await check(lab, file, json ? undefined : printFinding);
	if (result.solved) await markSolved(lab.number);
	if (json) printJson({ lab: lab.number, file, ...result });
	else process.stdout.write(`${summary(lab, result.solved, result.findings)}${outputOf(result.output)}`);
	return result.solved ? 0 : 1;
}

function printFinding({ verdict, text, hint }: Finding): void {
	const lines = [`${MARKS[verdict]} ${printable(text)}`, ...(hint === undefined ? [] : [`    ${printable(hint)}`])];
	process.stdout.write(`${lines.join("\n")}\n`);
}

function summary(lab: Lab, solved: boolean, findings: readonly Finding[]): string {
	if (!solved) {
		const right = findings.filter(({ verdict }) => verdict === "right").length;
		return `\nLab ${lab.number} is not solved yet. ${right} of ${findings.length} lines are right.\n`;
	}
	const next = LABS.find(({ number }) => number === lab.number + 1);
	const onward = next === undefined ? "That was the last one." : `Next: tsvmm learn ${next.number}, ${next.title}.`;
	return `\nLab ${lab.number} is solved. ${onward}\n`;
}

/** What the program printed, for the student who looks for a mistake. */
function outputOf(output: string): string {
	const lines = output.trimEnd().split("\n");
	if (output.trim() === "") return "";
	const more = lines.length > MOST_LINES ? [`    ... and ${lines.length - MOST_LINES} lines more`] : [];
	const shown = lines.slice(0, MOST_LINES).map((line) => `    ${printable(line)}`);
	return `\nYour program printed:\n${[...shown, ...more].join("\n")}\n`;
}
