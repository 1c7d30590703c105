/*
 * What commands ask of a container's supervisor, over its control socket (host/request-socket.ts).
 */

import { ask, RemoteError } from "../../host/request-socket.ts";
import type { MachineAnswer, MachineRequest } from "../../machine/control.ts";
import type { ContainerExec } from "../container.ts";
import type { Attachment } from "./config.ts";
import type { ContainerPaths } from "./paths.ts";

/** A process for `exec --detach`; its output is dropped. */
export type DetachedExec = Pick<ContainerExec, "args" | "env" | "cwd" | "user" | "privileged"> & { tty: boolean };

export type ControlRequest =
	/** As of a machine of `boot`. */
	| MachineRequest
	/** What the guest's kernel and its balloon say about memory. */
	| { do: "memory" }
	| { do: "stop"; signal?: number; timeoutMs?: number }
	| { do: "kill"; signal: number }
	| { do: "wait" }
	| { do: "pause" }
	| { do: "unpause" }
	| { do: "exec"; process: DetachedExec }
	/** Gives the machine a further interface on a network, or takes it away; answered when that is done. */
	| { do: "connect"; attachment: Attachment }
	| { do: "disconnect"; network: string }
	/** Starts another container in this machine; answered when it runs. */
	| { do: "join"; id: string; awaitAttach: boolean };

/** The memory of a guest as its balloon tells it. */
export interface GuestMemoryUse {
	/** Not used for anything, and what processes could get; missing when the guest has not answered, as while it is paused. */
	freeBytes?: number | undefined;
	availableBytes?: number | undefined;
	/** To the host, so far. */
	givenBackBytes: number;
}

export interface ControlAnswer extends MachineAnswer {
	/** Missing where the container does not have the machine alone. */
	memory?: GuestMemoryUse;
	/** Of the process, for stop and wait. */
	exitCode?: number;
}

/**
 * Asks the supervisor. Undefined when there is none, or when it ends before it has answered.
 *
 * @throws RemoteError what it could not do
 */
export async function askSupervisor(
	paths: Pick<ContainerPaths, "control">,
	request: ControlRequest,
): Promise<ControlAnswer | undefined> {
	const answer = await ask<ControlAnswer>(paths.control, request);
	if (answer?.failure !== undefined) throw new RemoteError(answer.failure);
	return answer;
}
