/*
 * Health checks, by Docker's rules: a command in the container, again and again. Exit status 0 is healthy. So many failures
 * in a row are unhealthy; those in the start period do not count.
 *
 *     starting --0--> healthy --`retries` failures--> unhealthy --0--> healthy
 */
import { setTimeout as sleep } from "node:timers/promises";
import { exitStatus } from "../../agent/session.ts";
import type { Container } from "../container.ts";
import type { HealthCheck } from "./config.ts";
import type { Health } from "./state.ts";

/**
 * Checks a container until `signal` aborts.
 *
 * @param isPaused no check is made while it is
 * @param onChange called when the status or the number of failures in a row has changed
 */
export async function watchHealth(
	container: Pick<Container, "exec">,
	check: HealthCheck,
	{ isPaused, onChange, signal }: { isPaused: () => boolean; onChange: (health: Health) => void; signal: AbortSignal },
): Promise<void> {
	const startedMs = performance.now();
	let health: Health = { status: "starting", failingStreak: 0 };
	while (await pause(check.intervalMs, signal)) {
		if (isPaused()) continue;
		const passed = await passes(container, check, signal);
		if (signal.aborted) return;
		const inStartPeriod = health.status === "starting" && performance.now() - startedMs < check.startPeriodMs;
		if (!passed && inStartPeriod) continue;
		const failingStreak = passed ? 0 : health.failingStreak + 1;
		const status = passed ? "healthy" : failingStreak >= check.retries ? "unhealthy" : health.status;
		if (status === health.status && failingStreak === health.failingStreak) continue;
		health = { status, failingStreak };
		onChange(health);
	}
}

/** False when the signal has aborted. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
	await sleep(ms, undefined, { signal, ref: false }).catch(() => undefined);
	return !signal.aborted;
}

async function passes(container: Pick<Container, "exec">, check: HealthCheck, signal: AbortSignal): Promise<boolean> {
	const abort = AbortSignal.any([signal, AbortSignal.timeout(check.timeoutMs)]);
	try {
		const session = await container.exec({ args: check.args, stdin: "null", signal: abort });
		session.stdout.resume();
		session.stderr.resume();
		return exitStatus(await session.exit) === 0;
	} catch {
		/* It cannot be run, or took too long. */
		return false;
	}
}
