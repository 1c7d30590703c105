/*
 * A writer for each format of trace files. It turns events or packets into text or bytes.
 */
import type { TraceEvent, TracePacket } from "../event.ts";
import type { TraceFormat } from "../format.ts";
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
} as const satisfies Record<TraceFormat, () => TraceWriter>;

export function writerFor(format: TraceFormat): TraceWriter {
	return FORMATS[format]();
}
