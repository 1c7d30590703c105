/*
 * A trace as lines for a terminal. It is loaded for a container whose trace is printed.
 */
import { printable } from "../../base/log.ts";
import type { Observer } from "../../base/observer.ts";
import { eventObserver } from "../../trace/recorder.ts";
import { traceLine } from "../../trace/write/text.ts";

/** @param words which events @param say gets each of them as a line */
export function printedTrace(words: readonly string[], say: (line: string) => void): Observer {
	return eventObserver({ event: (event) => say(`trace: ${printable(traceLine(event))}`) }, words);
}
