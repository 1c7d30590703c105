/*
 * How a container is, as its supervisor writes it to state.json after each change, and as it really is: a state of
 * something that lives beside a free lock means that the supervisor was killed.
 */
import { closeSync, openSync, readFileSync } from "node:fs";
import { errnoName, explain, HostError } from "../../base/errors.ts";
import * as z from "../../base/schema.ts";
import { writeDurably } from "../../host/durable-file.ts";
import { isLocked } from "../../host/file-lock.ts";
import { writingState } from "../state-failure.ts";
import type { ContainerPaths } from "./paths.ts";

export const ContainerStatus = z.enum(["created", "running", "paused", "restarting", "exited"]);
export type ContainerStatus = z.infer<typeof ContainerStatus>;

const Health = z.object({
	status: z.enum(["starting", "healthy", "unhealthy"]),
	/** Failures in a row. */
	failingStreak: z.number(),
});
export type Health = z.infer<typeof Health>;

const ContainerState = z.object({
	status: ContainerStatus,
	/** The supervisor's, while there is one; 0 otherwise. */
	pid: z.number(),
	/** Of the process; 128 + n for signal n. */
	exitCode: z.number(),
	/** ISO 8601; "" for never. */
	startedAt: z.string(),
	finishedAt: z.string(),
	/** Why it could not be started, or did not end by itself. */
	error: z.optional(
		z.object({
			code: z.string(),
			message: z.string(),
			hint: z.optional(z.string()),
			exitStatus: z.optional(z.number()),
		}),
	),
	/** How often its restart policy has started it. */
	restartCount: z.number(),
	/** Somebody stopped it: unless-stopped then leaves it. */
	stoppedByUser: z.boolean(),
	/** Of a container with a health check, while it runs. */
	health: z.optional(Health),
	/** Where it is on networks of `tsvmm network`, while it runs. */
	endpoints: z.optional(
		z.array(
			z.object({
				network: z.string(),
				address: z.string(),
				prefixLength: z.number(),
				gateway: z.string(),
				mac: z.string(),
			}),
		),
	),
	/** Whether its published ports lead to it, while it runs: not without a network that has a way out. */
	publishes: z.optional(z.boolean()),
	/** What its last start has reached when, if somebody wants to know. */
	marks: z.optional(z.array(z.object({ name: z.string(), atMs: z.number() }))),
	/** What was wrong with the template of its machine at its last start. */
	warning: z.optional(z.string()),
});
export type ContainerState = z.infer<typeof ContainerState>;

/** What has a supervisor, and with it such a state. */
type Supervised = "container" | "pod";

/** What a container has before its first start. */
export const CREATED: ContainerState = {
	status: "created",
	pid: 0,
	exitCode: 0,
	startedAt: "",
	finishedAt: "",
	restartCount: 0,
	stoppedByUser: false,
};

/** 128 + SIGKILL: what a machine's process ends with that was killed, and its container with it. */
const KILLED = 137;

/** Whether a supervisor of the container lives. False when the container is gone. */
export function isSupervised({ lock }: Pick<ContainerPaths, "lock">): boolean {
	let fd: number;
	try {
		fd = openSync(lock, "r+");
	} catch (error) {
		if (errnoName(error) === "ENOENT") return false;
		throw error;
	}
	try {
		return isLocked(fd);
	} finally {
		closeSync(fd);
	}
}

/** How the container is now. @throws HostError ERR_CONTAINER_STATE when its file is damaged */
export function readState(
	paths: Pick<ContainerPaths, "lock" | "state">,
	whose: Supervised = "container",
): ContainerState {
	const supervised = isSupervised(paths);
	const state = parseState(paths.state, whose);
	if (supervised || state.pid === 0) return state;
	const { error } = state;
	const killed = {
		code: "ERR_CONTAINER_KILLED",
		message: "Cannot tell how the container ended: its supervisor was killed",
	};
	const was = state.startedAt === "" ? { status: "created" as const } : { status: "exited" as const, exitCode: KILLED };
	return { ...state, ...was, pid: 0, error: error ?? killed };
}

function parseState(path: string, whose: Supervised): ContainerState {
	try {
		return ContainerState.parse(JSON.parse(readFileSync(path, "utf8")));
	} catch (error) {
		throw damaged(path, error, whose);
	}
}

/** A file of a container's or a pod's directory that cannot be used. */
export function damaged(path: string, cause: unknown, whose: Supervised = "container"): HostError {
	const found = cause instanceof z.ZodError || cause instanceof SyntaxError ? "it is damaged" : explain(cause);
	return new HostError("ERR_CONTAINER_STATE", `Cannot read ${path}: ${found}`, {
		hint: whose === "pod" ? "Remove the pod with: tsvmm pod rm -f ID" : "Remove the container with: tsvmm rm -f ID",
		cause,
	});
}

export async function writeState(paths: Pick<ContainerPaths, "state">, state: ContainerState): Promise<void> {
	await writingState(() => writeDurably(paths.state, `${JSON.stringify(state, undefined, "\t")}\n`));
}
