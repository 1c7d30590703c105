/*
 * What `--timings` tells of the phases of a start: one line, or JSON for a script.
 */
import { type Mark, type Phase, phasesOf, totalMs } from "../base/timeline.ts";

/** As in the JSON that is printed. */
export interface Timings {
	readonly phases: readonly Phase[];
	/** The phases' sum. */
	readonly totalMs: number;
}

export function timingsOf(startMs: number, marks: readonly Mark[]): Timings {
	const phases = phasesOf(startMs, marks);
	return { phases, totalMs: totalMs(phases) };
}

/** "exec 10 ms, node 31.2 ms, total 41.2 ms" */
export function describeTimings({ phases, totalMs: ms }: Timings): string {
	return [...phases, { name: "total", ms }].map((phase) => `${phase.name} ${phase.ms} ms`).join(", ");
}
