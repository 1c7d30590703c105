/*
 * What goes between those who take machines, a machine that waits, and its pool:
 *
 *     taker --Order--> machine: TAKEN as soon as it is the taker's, BEGUN when it listens, then a Report when its container runs, or why not
 *     machine --READY, TAKEN--> pool; the stream ends when the container runs, and the pool starts the next machine
 *     pool ls, down, up --PoolRequest--> pool: PoolAnswer
 *
 * The end of the stream ends a machine that waits, so none outlives the pool.
 */
import type { Failure } from "../../host/request-socket.ts";
import type { TemplateShape } from "../template/store.ts";

/** Lines of a machine that waits. */
export const READY = "ready\n";
export const TAKEN = "taken\n";
/** White space, before the report in JSON. */
export const BEGUN = "\n";

/** What a machine becomes. Its process takes over all of this from the taker, as if it had been started by it. */
export interface Order {
	/** The container's. */
	id: string;
	awaitAttach: boolean;
	/** How long each phase takes is told in its state. */
	timings: boolean;
	env: Readonly<Record<string, string | undefined>>;
	umask: number;
	/** As of `controlGroups`. */
	groups: string;
}

/** The container runs, when there is no failure. */
export interface Report {
	failure?: Failure;
}

export type PoolRequest = { do: "describe" } | { do: "resize"; machines: number } | { do: "end" };

export interface PoolState {
	shape: TemplateShape;
	/** So many are to wait. */
	machines: number;
	/** So many do. */
	ready: number;
	/** Why the last one could not be made, one line. No further one is made then. */
	failure?: string | undefined;
}

export type PoolAnswer = { state: PoolState } | { failure: Failure };
