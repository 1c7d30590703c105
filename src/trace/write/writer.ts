/*
 * The formats of trace files, by the end of the file's name. A writer turns events or packets into text or bytes.
 */
import { UsageError } from "../../base/errors.ts";
import type { TraceEvent, TracePacket } from "../event.ts";
import { ChromeWriter } from "./chrome.ts";
import { PcapngWriter } from "./pcapng.ts";

/** Turns events into the parts of a file. */
export interface TraceWriter {
	/** What an event adds to the file. */
	event?(event: TraceEvent): string;
	/** What a packet adds. */
	packet?(packet: TracePacket): Uint8Array;
	/** The file's end. */
	end?(): string | Uint8Array;
}

/** One event per line. */
class JsonLinesWriter implements TraceWriter {
	event(event: TraceEvent): string {
		return `${JSON.stringify(event)}\n`;
	}
}

const FORMATS = {
	jsonl: () => new JsonLinesWriter(),
	chrome: () => new ChromeWriter(),
	pcapng: () => new PcapngWriter(),
} as const satisfies Record<string, () => TraceWriter>;

/**
 * A format of trace files: events as lines of JSON, events for ui.perfetto.dev and Chrome's about:tracing, or the packets
 * of net and vsock devices for Wireshark.
 */
export type TraceFormat = keyof typeof FORMATS;

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

export function writerFor(format: TraceFormat): TraceWriter {
	return FORMATS[format]();
}
