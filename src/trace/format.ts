/*
 * The formats of trace files, by the end of the file's name.
 */
import { UsageError } from "../base/errors.ts";

/**
 * A format of trace files: events as lines of JSON, events for ui.perfetto.dev and Chrome's about:tracing, or the packets
 * of net and vsock devices for Wireshark.
 */
export type TraceFormat = "jsonl" | "chrome" | "pcapng";

const BY_ENDING: readonly (readonly [ending: string, format: TraceFormat])[] = [
	[".jsonl", "jsonl"],
	[".json", "chrome"],
	[".pcapng", "pcapng"],
];

/** The format that a file's name asks for. @throws UsageError ERR_TRACE_FORMAT */
export function formatOfTrace(path: string): TraceFormat {
	const found = BY_ENDING.find(([ending]) => path.endsWith(ending));
	if (found !== undefined) return found[1];
	throw new UsageError("ERR_TRACE_FORMAT", `Cannot tell the format of the trace ${JSON.stringify(path)}`, {
		hint: "End its name with .jsonl (events), .json (ui.perfetto.dev) or .pcapng (Wireshark)",
	});
}
