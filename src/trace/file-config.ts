/*
 * What a machine's configuration says of a trace file. A machine without a trace loads no more of this directory than this.
 */
import { TraceFilter } from "./filter.ts";
import { formatOfTrace, type TraceFormat } from "./format.ts";

/** A file to trace to. */
export interface TraceFileConfig {
	/** It is written anew. */
	path: string;
	/** By the end of the path when missing: .jsonl, .json for ui.perfetto.dev, .pcapng. */
	format?: TraceFormat | undefined;
	/** Which events: kinds such as "exits", devices such as "blk0", or "all". All when missing. */
	events?: readonly string[] | undefined;
}

/** @throws UsageError ERR_TRACE_FORMAT, ERR_OPTION_TRACE */
export function checkTraceFile({ path, format, events }: TraceFileConfig): void {
	if (format === undefined) formatOfTrace(path);
	new TraceFilter(events);
}
