/*
 * `tsvmm explain`: a trace -> a story and the likely reasons of a failure. `boot --explain` tells the same of a machine that
 * it runs (explained-machine.ts).
 */
import { Command } from "commander";
import { explain } from "../explain/explanation.ts";
import { readTrace } from "../explain/read-trace.ts";
import { report } from "../explain/report.ts";
import { addressNames } from "../explain/symbols.ts";

interface ExplainFlags {
	symbols?: string;
	json: boolean;
}

/** The command for main.ts. */
export function explainCommand(): Command {
	return new Command("explain")
		.description("tell what a traced machine did, and why it failed")
		.argument("<trace>", "a .jsonl of `tsvmm boot --trace-file`")
		.option("--symbols <file>", "vmlinux with the kernel's symbols; by default that of the machine")
		.option("--json", "print JSON", false)
		.action(async (path: string, flags: ExplainFlags) => {
			const story = await readTrace(path);
			const name = await addressNames(flags.symbols ?? story.created?.kernel, flags.symbols !== undefined);
			const explanation = explain(story, name);
			process.stdout.write(flags.json ? `${JSON.stringify(explanation, undefined, 2)}\n` : report(explanation));
		});
}
