/*
 * What a process cannot do in the state that it is in, in the words of containerd's shim for runc.
 */
import { CODE, RpcError } from "./ttrpc.ts";

export type Status = "created" | "running" | "paused" | "stopped";

const REFUSALS = {
	start: {
		running: "cannot start a running process",
		paused: "cannot start a paused process",
		stopped: "cannot start a stopped process",
	},
	delete: { running: "cannot delete a running process", paused: "cannot delete a paused process" },
	pause: {
		created: "cannot pause task in created state",
		paused: "cannot pause a paused container",
		stopped: "cannot pause a stopped container",
	},
	resume: {
		created: "cannot resume task in created state",
		running: "cannot resume a running process",
		stopped: "cannot resume a stopped container",
	},
	update: { stopped: "cannot update a stopped container" },
	exec: { paused: "cannot exec in a paused state", stopped: "cannot exec in a stopped state" },
} as const satisfies Record<string, Partial<Record<Status, string>>>;

/** @throws RpcError when a process in this state cannot do that */
export function allow(action: keyof typeof REFUSALS, status: Status): void {
	const refusals: Partial<Record<Status, string>> = REFUSALS[action];
	const message = refusals[status];
	if (message !== undefined) throw new RpcError(CODE.unknown, message);
}
