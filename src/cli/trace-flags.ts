/*
 * The flags that say what is traced, and where to: `--trace` names events, `--trace-file` a file for them. Without a file
 * they are printed.
 */
import { type Command, Option } from "commander";
import { UsageError } from "../base/errors.ts";
import { outputShare, type Share } from "../lab/shares.ts";
import { checkTraceFile, type TraceFileConfig } from "../trace/file-config.ts";
import { TraceFilter } from "../trace/filter.ts";

export interface TraceFlags {
	trace?: string;
	traceFile: string[];
}

/** The part of a machine's configuration that they are. */
export interface TraceConfig {
	trace?: readonly string[];
	traceFiles?: readonly TraceFileConfig[];
}

export function addTraceFlags(command: Command): Command {
	return command
		.option("--trace <what>", "events such as exits,mmio,queues,blk0,boot, or all: on stderr, or in --trace-file")
		.addOption(
			new Option("--trace-file <file>", "write events to FILE.jsonl, .json (Perfetto) or .pcapng; may be repeated")
				.argParser((path: string, before: string[]) => [...before, path])
				.default([], "none"),
		);
}

/** @throws UsageError ERR_OPTION_TRACE, ERR_TRACE_FORMAT */
export function traceConfig({ trace, traceFile }: TraceFlags): TraceConfig {
	const words = trace === undefined ? undefined : parseTrace(trace);
	if (traceFile.length === 0) return words === undefined ? {} : { trace: words };
	const traceFiles = traceFile.map((path) => (words === undefined ? { path } : { path, events: words }));
	for (const file of traceFiles) checkTraceFile(file);
	return { traceFiles };
}

/** The lab writes these files. */
export function traceShares({ traceFiles = [] }: TraceConfig): Share[] {
	return traceFiles.map(({ path }) => outputShare(path));
}

/** "mmio", "pio,exits", "all" @throws UsageError ERR_OPTION_TRACE */
export function parseTrace(text: string): string[] {
	const words = text.split(",");
	new TraceFilter(words);
	return words;
}

const MAX_SECONDS = 1_000_000;

/** The SECONDS of `--explain`; NaN without any. @throws UsageError ERR_OPTION_EXPLAIN */
export function parseSeconds(text: string): number {
	const seconds = Number(text);
	if (text === "") return Number.NaN;
	if (seconds > 0 && seconds <= MAX_SECONDS) return seconds;
	throw new UsageError("ERR_OPTION_EXPLAIN", `Cannot wait "${text}" seconds to explain the machine`, {
		hint: "Give --explain a number of seconds, as in --explain 10",
	});
}
