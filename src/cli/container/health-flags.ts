/*
 * The flags of `run` and `create` that say how a container's health is checked.
 */
import { UsageError } from "../../base/errors.ts";
import type { ContainerConfig } from "../../container/life/config.ts";
import { parseDuration } from "../time.ts";

export interface HealthFlags {
	healthCmd?: string;
	healthInterval: string;
	healthRetries: string;
	healthStartPeriod: string;
	healthTimeout: string;
	/** False with --no-healthcheck. */
	healthcheck: boolean;
}

/** @throws UsageError ERR_RUN_HEALTH */
export function readHealth(flags: HealthFlags): ContainerConfig["health"] {
	const { healthCmd, healthcheck, healthRetries } = flags;
	if (healthCmd === undefined || !healthcheck) return undefined;
	if (!/^[1-9]\d{0,5}$/.test(healthRetries)) {
		throw new UsageError(
			"ERR_RUN_HEALTH",
			`Cannot read number of retries "${healthRetries}": a whole number is wanted`,
		);
	}
	return {
		args: ["/bin/sh", "-c", healthCmd],
		intervalMs: readDuration(flags.healthInterval),
		timeoutMs: readDuration(flags.healthTimeout),
		retries: Number(healthRetries),
		startPeriodMs: readDuration(flags.healthStartPeriod, 0),
	};
}

/** The longest that a timer can wait. */
const LONGEST_MS = 2 ** 31 - 1;

/** @param leastMs a check that follows at once, or has no time, would be none */
function readDuration(text: string, leastMs = 1): number {
	const ms = parseDuration(text);
	if (ms !== undefined && ms >= leastMs && ms <= LONGEST_MS) return ms;
	throw new UsageError("ERR_RUN_HEALTH", `Cannot use time "${text}" for a health check`, {
		hint: "Write it as in 30s, 1m30s or 500ms; from 1ms to 24 days",
	});
}
