/*
 * The traces that a machine's configuration asks for: lines in its log (`trace`), and files (`traceFiles`). Files are opened
 * as resources of the host, and closed last.
 */
import { type Logger, printable } from "../base/log.ts";
import type { Observer } from "../base/observer.ts";
import type { Teardown } from "../base/teardown.ts";
import { eventObserver } from "../trace/recorder.ts";
import { TraceFile, type TraceFileConfig } from "../trace/trace-file.ts";
import { traceLine } from "../trace/write/text.ts";
import type { Entry } from "./entry.ts";

/** An observer that prints events, one per line. */
export function printingObserver(words: readonly string[], logger: Logger): Observer {
	const event = (one: Parameters<typeof traceLine>[0]) => logger.line(`trace: ${printable(traceLine(one))}`);
	return eventObserver({ event }, words);
}

/**
 * Opens the files. `teardown` tells them of the machine's end and closes them, so it should know of them first.
 *
 * @throws HostError ERR_TRACE_FILE
 */
export async function openTraceFiles(
	configs: readonly TraceFileConfig[],
	entry: Entry,
	teardown: Teardown,
): Promise<TraceFile[]> {
	const files: TraceFile[] = [];
	for (const config of configs) {
		const file = await TraceFile.open(config);
		files.push(file);
		teardown.add(() => {
			if (entry.ended !== undefined) file.observer.machine?.({ state: "ended", ...entry.ended });
			return file.close();
		});
	}
	return files;
}
