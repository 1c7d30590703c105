/*
 * `tsvmm explain`: a trace -> a story and the likely reasons of a failure. Or a machine that lives, of a container or of `boot
 * --control`: its own process looks at it (explain/live.ts). `boot --explain` tells the same of a machine that it runs
 * (explained-machine.ts).
 */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import { Command, Option } from "commander";
import { StateError, UsageError } from "../base/errors.ts";
import { ContainerStore } from "../container/life/store.ts";
import { type Explanation, explain } from "../explain/explanation.ts";
import { readTrace } from "../explain/read-trace.ts";
import { report } from "../explain/report.ts";
import { addressNames } from "../explain/symbols.ts";
import { fileShare } from "../lab/shares.ts";
import { askMachine } from "../machine/control.ts";
import { controlOf } from "./ask-machine.ts";
import { whereContainersAre } from "./container/where.ts";

interface ExplainFlags {
	symbols?: string;
	seconds: number;
	json: boolean;
}

const MOST_SECONDS = 600;

/** The command for main.ts. */
export function explainCommand(): Command {
	return new Command("explain")
		.description("tell what a traced machine did, or how one that lives stands, and why it failed")
		.argument("<what>", "a .jsonl of --trace-file, a container, or a machine's control socket")
		.option("--symbols <file>", "vmlinux, System.map or kallsyms; by default what its kernel has")
		.addOption(new Option("--seconds <n>", "how long to look at a machine that lives").argParser(parseLook).default(1))
		.option("--json", "print JSON", false)
		.action(async (what: string, flags: ExplainFlags) => {
			if (isTrace(what)) print(await explainTrace(what, flags), flags);
			else await explainMachine(what, flags);
		});
}

/** "0.5", "10" @throws UsageError ERR_OPTION_EXPLAIN */
function parseLook(text: string): number {
	const seconds = Number(text);
	if (text !== "" && seconds >= 0 && seconds <= MOST_SECONDS) return seconds;
	throw new UsageError("ERR_OPTION_EXPLAIN", `Cannot look at the machine for "${text}" seconds`, {
		hint: `Give --seconds a number up to ${MOST_SECONDS}`,
	});
}

/** A file, or a word that can only be one's path: no container has such a name. */
function isTrace(word: string): boolean {
	const found = statSync(word, { throwIfNoEntry: false });
	return found === undefined
		? word.includes("/") || word.endsWith(".jsonl")
		: !found.isSocket() && !found.isDirectory();
}

async function explainTrace(path: string, { symbols }: ExplainFlags): Promise<Explanation> {
	const story = await readTrace(path);
	return explain(story, await addressNames(symbols ?? story.created?.kernel, symbols !== undefined));
}

async function explainMachine(word: string, flags: ExplainFlags): Promise<void> {
	const { seconds, symbols } = flags;
	const work = async () => {
		const request = {
			do: "explain",
			seconds,
			...(symbols === undefined ? {} : { symbols: resolve(symbols) }),
		} as const;
		const { explanation } = await askMachine(machineOf(word), request);
		print(explanation as Explanation, flags);
		return 0;
	};
	await whereContainersAre(work, { shares: symbols === undefined ? [] : [fileShare(symbols, "ro")] });
}

/** The control socket. @throws StateError ERR_CONTAINER_NOT_RUNNING, with the trace of its last run if there is one */
function machineOf(word: string): string {
	try {
		return controlOf(word, "explain", true);
	} catch (error) {
		if (!(error instanceof StateError)) throw error;
		const { observed } = new ContainerStore().find(word).config;
		const trace = observed?.traceFiles?.find(({ path }) => path.endsWith(".jsonl"));
		if (trace === undefined) throw error;
		throw new StateError("ERR_CONTAINER_NOT_RUNNING", error.message, {
			hint: `Read its trace: tsvmm explain ${trace.path}`,
		});
	}
}

function print(explanation: Explanation, { json }: ExplainFlags): void {
	process.stdout.write(json ? `${JSON.stringify(explanation, undefined, 2)}\n` : report(explanation));
}
