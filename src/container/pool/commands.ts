/*
 * What commands do to pools: start or resize one, look at all of them, end them.
 */
import { mkdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { TsvmmError } from "../../base/errors.ts";
import { launchDetached } from "../../host/detached-process.ts";
import { ask, RemoteError } from "../../host/request-socket.ts";
import { PoolPaths, poolKeys } from "./paths.ts";
import type { PoolAnswer, PoolRequest, PoolState } from "./protocol.ts";
import type { PoolPlan } from "./supervisor.ts";

const POLL_MS = 50;

/** A pool that is there. */
export interface Pool extends PoolState {
	key: string;
}

/**
 * Starts a pool, or changes how many machines it holds. Resolves when a new one is full.
 *
 * @throws RemoteError why no machine can be made
 */
export async function startPool(plan: PoolPlan): Promise<string> {
	const paths = PoolPaths.of(plan.shape);
	mkdirSync(paths.directory, { recursive: true, mode: 0o700 });
	for (;;) {
		if ((await askPool(paths, { do: "resize", machines: plan.machines })) !== undefined) return paths.key;
		if (!paths.isSupervised() && (await launch(paths, plan))) return paths.key;
		/* One has just begun, or is about to end. */
		await sleep(POLL_MS);
	}
}

/** @returns false when another process was quicker */
async function launch(paths: PoolPaths, plan: PoolPlan): Promise<boolean> {
	try {
		await launchDetached({
			words: ["pool", "supervise", paths.key, `${plan.machines}`, JSON.stringify(plan.shape)],
			log: paths.log,
			attempt: `Cannot start pool ${paths.key}: its supervisor`,
			code: "ERR_POOL_FAILED",
		});
		return true;
	} catch (error) {
		if (error instanceof TsvmmError && error.code === "ERR_POOL_RUNNING") return false;
		throw error;
	}
}

/** Those that have a supervisor. */
export async function listPools(): Promise<Pool[]> {
	const pools: Pool[] = [];
	for (const key of poolKeys()) {
		const paths = new PoolPaths(key);
		const state = await askPool(paths, { do: "describe" });
		if (state !== undefined) pools.push({ ...state, key });
	}
	return pools;
}

/** Ends a pool with all machines that wait. Those that were taken go on. */
export async function endPool(key: string): Promise<void> {
	await askPool(new PoolPaths(key), { do: "end" });
}

/** Undefined when nobody supervises it. @throws RemoteError */
async function askPool(paths: PoolPaths, request: PoolRequest): Promise<PoolState | undefined> {
	const answer = await ask<PoolAnswer>(paths.control, request);
	if (answer !== undefined && "failure" in answer) throw new RemoteError(answer.failure);
	return answer?.state;
}
