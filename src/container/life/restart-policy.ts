/*
 * Whether and when a container that has ended is started again, by Docker's rules: twice as long a pause each time, from
 * 100 ms to a minute, and from the beginning after it has run for ten seconds.
 */
import { UsageError } from "../../base/errors.ts";
import type { RestartPolicy } from "./config.ts";

const FIRST_DELAY_MS = 100;
const LAST_DELAY_MS = 60_000;
/** A run that lasts so long was a success. */
const STEADY_MS = 10_000;

/** "no", "always", "unless-stopped", "on-failure", "on-failure:5". @throws UsageError ERR_RUN_RESTART */
export function parseRestartPolicy(text: string): RestartPolicy {
	const match = /^(no|always|unless-stopped|on-failure)(?::(\d+))?$/.exec(text === "" ? "no" : text);
	const name = match?.[1] as RestartPolicy["name"] | undefined;
	if (name === undefined || (match![2] !== undefined && name !== "on-failure")) {
		throw new UsageError("ERR_RUN_RESTART", `Cannot read restart policy "${text}"`, {
			hint: "Use no, on-failure[:TIMES], always or unless-stopped",
		});
	}
	return { name, maximumRetryCount: Number(match![2] ?? 0) };
}

export class RestartDelay {
	#delayMs = 0;

	/** How long to wait before the next start, after a run of `ranMs`. */
	next(ranMs: number): number {
		this.#delayMs =
			this.#delayMs === 0 || ranMs >= STEADY_MS ? FIRST_DELAY_MS : Math.min(2 * this.#delayMs, LAST_DELAY_MS);
		return this.#delayMs;
	}
}

/** Whether a container that has ended by itself is started again. @param restarts how often it was already */
export function mayRestart({ name, maximumRetryCount }: RestartPolicy, exitCode: number, restarts: number): boolean {
	if (name === "on-failure") return exitCode !== 0 && (maximumRetryCount === 0 || restarts < maximumRetryCount);
	return name !== "no";
}
