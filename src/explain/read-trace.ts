/*
 * Reads the events of a .jsonl into a story, line by line, so that a large trace needs no memory. A last line that was cut
 * is skipped: the trace of a process that was killed ends so.
 */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { TsvmmError } from "../base/errors.ts";
import type { TraceEvent } from "../trace/event.ts";
import { Story } from "./story.ts";

/** @throws TsvmmError ERR_EXPLAIN_TRACE for a file that is no trace or cannot be read */
export async function readTrace(path: string): Promise<Story> {
	const story = new Story();
	const lines = createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY });
	let bad: { line: number; why: string } | undefined;
	let number = 0;
	try {
		for await (const line of lines) {
			number++;
			if (bad !== undefined) throw notTrace(path, `line ${bad.line}: ${bad.why}`);
			const event = eventIn(line);
			if (typeof event === "string") bad = { line: number, why: event };
			else story.add(event);
		}
	} catch (cause) {
		if (cause instanceof TsvmmError) throw cause;
		throw notTrace(path, (cause as Error).message, cause);
	}
	if (story.events === 0) throw notTrace(path, bad === undefined ? "it is empty" : `line 1: ${bad.why}`);
	return story;
}

/** An event, or what is wrong with the line. */
function eventIn(line: string): TraceEvent | string {
	try {
		const event = JSON.parse(line) as Partial<TraceEvent> | null;
		if (typeof event?.t !== "number" || typeof event.kind !== "string") return "it is no event";
		return event as TraceEvent;
	} catch {
		return "it is no JSON";
	}
}

function notTrace(path: string, why: string, cause?: unknown): TsvmmError {
	return new TsvmmError("ERR_EXPLAIN_TRACE", `Cannot explain ${path}: ${why}`, {
		cause,
		hint: "Make a trace: tsvmm boot --kernel KERNEL --trace-file trace.jsonl",
	});
}
