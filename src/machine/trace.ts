/*
 * The traces that a machine's configuration asks for: lines in its log (`trace`), and files (`traceFiles`). Files are opened
 * as resources of the host, and closed last. It is loaded for a machine that has one.
 */
import { type Logger, printable } from "../base/log.ts";
import type { Observer } from "../base/observer.ts";
import type { Teardown } from "../base/teardown.ts";
import { eventObserver } from "../trace/recorder.ts";
import { TraceFile } from "../trace/trace-file.ts";
import { traceLine } from "../trace/write/text.ts";
import type { CompleteConfig } from "./config.ts";
import type { Entry } from "./entry.ts";

/**
 * Observers for all traces. `teardown` tells the files of the machine's end and closes them, so it should know of them first.
 *
 * @throws HostError ERR_TRACE_FILE
 */
export async function openTraces(
	{ trace, traceFiles }: Pick<CompleteConfig, "trace" | "traceFiles">,
	entry: Entry,
	teardown: Teardown,
): Promise<Observer[]> {
	const observers = trace.length > 0 ? [printingObserver(trace, entry.logger)] : [];
	for (const config of traceFiles) {
		const file = await TraceFile.open(config);
		observers.push(file.observer);
		teardown.add(() => {
			if (entry.ended !== undefined) file.observer.machine?.({ state: "ended", ...entry.ended });
			return file.close();
		});
	}
	return observers;
}

/** An observer that prints events, one per line. */
function printingObserver(words: readonly string[], logger: Logger): Observer {
	const event = (one: Parameters<typeof traceLine>[0]) => logger.line(`trace: ${printable(traceLine(one))}`);
	return eventObserver({ event }, words);
}
