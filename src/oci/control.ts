/*
 * What commands ask of a container's process, over its control socket (host/request-socket.ts).
 */
import { ask, type Failure } from "../host/request-socket.ts";
import type { Resources } from "./bundle.ts";
import type { Share } from "./mounts.ts";
import { OciError } from "./runtime-error.ts";

export type ControlRequest =
	| { do: "start" }
	| { do: "kill"; signal: number; all: boolean }
	| { do: "pause" }
	| { do: "resume" }
	| { do: "update"; resources: Resources }
	/** Of the machine's owner: directories for another container in it. */
	| { do: "share"; shares: Share[] }
	| { do: "unshare"; names: string[] };

export interface ControlAnswer {
	failure?: Failure;
}

/**
 * Asks a container's process.
 *
 * @throws OciError what it could not do; ERR_OCI_STOPPED when there is none
 */
export async function askProcess(socket: string, request: ControlRequest): Promise<void> {
	const answer = await ask<ControlAnswer>(socket, request);
	if (answer === undefined) throw new OciError("ERR_OCI_STOPPED", "container not running");
	const { failure } = answer;
	if (failure === undefined) return;
	const { code, message, exitStatus } = failure;
	throw new OciError(code, message, exitStatus === undefined ? {} : { exitStatus });
}
