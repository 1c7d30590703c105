/*
 * The flags of `run` and `create` that say how a container's health is checked.
 */
import { UsageError } from "../../base/errors.ts";
import type { ImageHealthcheck } from "../../container/image/config.ts";
import type { ContainerConfig } from "../../container/life/config.ts";
import { parseDuration } from "../time.ts";

/** A missing flag leaves it to the image, and then to Docker's default. */
export interface HealthFlags {
	healthCmd?: string;
	healthInterval?: string;
	healthRetries?: string;
	healthStartPeriod?: string;
	healthTimeout?: string;
	/** False with --no-healthcheck. */
	healthcheck: boolean;
}

/** Docker's. */
const DEFAULT = { intervalMs: 30_000, timeoutMs: 30_000, startPeriodMs: 0, retries: 3 };

/** @throws UsageError ERR_RUN_HEALTH */
export function readHealth(flags: HealthFlags, image?: ImageHealthcheck): ContainerConfig["health"] {
	const { healthCmd, healthcheck, healthRetries, healthInterval, healthTimeout, healthStartPeriod } = flags;
	const args = healthCmd === undefined ? image?.args : ["/bin/sh", "-c", healthCmd];
	if (args === undefined || !healthcheck) return undefined;
	if (healthRetries !== undefined && !/^[1-9]\d{0,5}$/.test(healthRetries)) {
		throw new UsageError(
			"ERR_RUN_HEALTH",
			`Cannot read number of retries "${healthRetries}": a whole number is wanted`,
		);
	}
	const bounded = (ms: number | undefined) => (ms === undefined ? undefined : Math.min(ms, LONGEST_MS));
	return {
		args: [...args],
		intervalMs: readDuration(healthInterval) ?? bounded(image?.intervalMs) ?? DEFAULT.intervalMs,
		timeoutMs: readDuration(healthTimeout) ?? bounded(image?.timeoutMs) ?? DEFAULT.timeoutMs,
		retries: healthRetries === undefined ? (image?.retries ?? DEFAULT.retries) : Number(healthRetries),
		startPeriodMs: readDuration(healthStartPeriod, 0) ?? bounded(image?.startPeriodMs) ?? DEFAULT.startPeriodMs,
	};
}

/** The longest that a timer can wait. */
const LONGEST_MS = 2 ** 31 - 1;

/** @param leastMs a check that follows at once, or has no time, would be none */
function readDuration(text: string | undefined, leastMs = 1): number | undefined {
	if (text === undefined) return undefined;
	const ms = parseDuration(text);
	if (ms !== undefined && ms >= leastMs && ms <= LONGEST_MS) return ms;
	throw new UsageError("ERR_RUN_HEALTH", `Cannot use time "${text}" for a health check`, {
		hint: "Write it as in 30s, 1m30s or 500ms; from 1ms to 24 days",
	});
}
