/*
 * Diagnostics on stderr. Guest-triggered messages go through `limited`, so that a hostile guest cannot fill a log: at
 * most one line per second and subject, the number of suppressed ones is added to the next.
 */

export type LogLevel = "error" | "warn" | "info" | "debug";
const RANK: Record<LogLevel, number> = { error: 0, warn: 1, info: 2, debug: 3 };

let threshold = RANK.warn;

/** Sets the least severe level that is still printed; "warn" until called. */
export function setLogLevel(level: LogLevel): void {
	threshold = RANK[level];
}

/** Prints one line "tsvmm: level: message" on stderr when the level is enabled. */
export function log(level: LogLevel, message: string): void {
	if (RANK[level] <= threshold) process.stderr.write(`tsvmm: ${level}: ${message}\n`);
}

const lastMs = new Map<string, number>();
const suppressed = new Map<string, number>();

/** Like `log`, but at most once per second for the same `subject` (one per device is the habit). */
export function limited(subject: string, level: LogLevel, message: string): void {
	if (RANK[level] > threshold) return;
	const now = performance.now();
	const previous = lastMs.get(subject);
	if (previous !== undefined && now - previous < 1000) {
		suppressed.set(subject, (suppressed.get(subject) ?? 0) + 1);
		return;
	}
	const missed = suppressed.get(subject) ?? 0;
	suppressed.delete(subject);
	lastMs.set(subject, now);
	log(level, `${subject}: ${message}${missed > 0 ? ` (${missed} similar messages suppressed)` : ""}`);
}
