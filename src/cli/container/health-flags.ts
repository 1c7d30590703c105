/*
 * The flags of `run` and `create` that say how a container's health is checked.
 */
import { UsageError } from "../../base/errors.ts";
import type { ContainerConfig } from "../../container/life/config.ts";

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
		startPeriodMs: readDuration(flags.healthStartPeriod),
	};
}

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** "30s", "1m30s", "500ms". */
function readDuration(text: string): number {
	if (/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) {
		const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
		return parts.reduce((sum, [, count, unit]) => sum + Number(count) * UNITS_MS[unit!]!, 0);
	}
	throw new UsageError("ERR_RUN_HEALTH", `Cannot read time "${text}"`, { hint: "Write it as in 30s, 1m30s or 500ms" });
}
