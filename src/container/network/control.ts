/*
 * What is asked of a network's supervisor, over its control socket (host/request-socket.ts).
 */
import { ask, type Failure, RemoteError } from "../../host/request-socket.ts";
import type { NetworkSockets } from "./store.ts";

/** A container that wants to be on the network. */
export interface Applicant {
	/** Of the container. */
	id: string;
	/** What the others may call it. */
	names: readonly string[];
	/** The address that it wants; any when missing. */
	address?: string | undefined;
}

/** What a member has. */
export interface Membership {
	address: string;
	mac: string;
}

export type NetworkRequest =
	| { do: "join"; applicant: Applicant }
	| { do: "list" }
	/** Asked by another network, for a container that is on both. */
	| { do: "lookUp"; name: string; asker: string };

export interface NetworkAnswer {
	/** What could not be done. */
	failure?: Failure;
	/** For join. */
	membership?: Membership;
	/** For list. */
	members?: (Applicant & Membership)[];
	/** For lookUp; missing when no member has the name, or the asker is none. */
	addresses?: readonly string[];
}

/** Undefined when the network has no supervisor, or when that ends before it has answered. @throws RemoteError */
export async function askNetwork(
	{ control }: NetworkSockets,
	request: NetworkRequest,
): Promise<NetworkAnswer | undefined> {
	const answer = await ask<NetworkAnswer>(control, request);
	if (answer?.failure !== undefined) throw new RemoteError(answer.failure);
	return answer;
}
