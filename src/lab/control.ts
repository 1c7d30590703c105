/*
 * The requests that a command sends to a lab's supervisor before it starts programs. They have a unix socket of their
 * own; request and answer are one JSON value each (host/request-socket.ts). Only the lab's user can connect to the socket (paths.ts).
 */
import { answerRequests, ask, type Failure, failureOf } from "../host/request-socket.ts";
import type { Share } from "./shares.ts";

/** Raise it when one of the two interfaces below changes, or what a supervisor does for a command. */
export const CONTROL_PROTOCOL = 1;

/** What a command needs. The supervisor also checks, for every request, that the lab runs programs. */
export interface LabRequest {
	shares: readonly Share[];
}

export interface LabAnswer {
	/** What the lab no longer does; its supervisor ends it now. */
	broken?: string;
	/** Why the request failed. */
	failure?: Failure;
}

/** Sends a request. Undefined when there is no supervisor at `path`, or when it ends before it answers. */
export function askSupervisor(path: string, request: LabRequest): Promise<LabAnswer | undefined> {
	return ask<LabAnswer>(path, request);
}

/** Answers requests at `path`. @returns a function that closes the socket */
export function answerLabRequests(
	path: string,
	answer: (request: LabRequest) => Promise<LabAnswer>,
): Promise<() => Promise<void>> {
	return answerRequests(path, (request) =>
		answer(request as LabRequest).catch(
			(error: unknown): LabAnswer => ({ failure: failureOf(error, "ERR_LAB_FAILED") }),
		),
	);
}
