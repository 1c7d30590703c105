/*
 * Times on a command line, as Docker has them: durations such as 1h30m, and points of time.
 */
import { UsageError } from "../base/errors.ts";

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** "30s", "1m30s", "500ms" in ms; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
	if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) return undefined;
	const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
	return parts.reduce((sum, [, count, unit]) => sum + Number(count) * UNITS_MS[unit!]!, 0);
}

/** "2026-01-02T03:04:05Z", "1767323045.5", "1h30m" (ago): in ms since 1970. @throws UsageError ERR_LOGS */
export function readTime(text: string, nowMs = Date.now()): number {
	if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
	const agoMs = parseDuration(text);
	if (agoMs !== undefined) return nowMs - agoMs;
	const time = Date.parse(text);
	if (!Number.isNaN(time)) return time;
	throw new UsageError("ERR_LOGS", `Cannot read time "${text}"`, {
		hint: "Write 2026-01-02T03:04:05Z, seconds since 1970, or a time ago such as 10m or 1h30m",
	});
}
