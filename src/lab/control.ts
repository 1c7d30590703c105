/*
 * The requests that a command sends to a lab's supervisor before it starts programs. They have a unix socket of their
 * own; request and answer are one line of JSON each. Only the lab's user can connect to the socket (paths.ts).
 */
import { connect, createServer, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { explain, TsvmmError } from "../base/errors.ts";
import type { SupervisorFailure } from "./paths.ts";
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
	failure?: SupervisorFailure;
}

/** Connects to a unix socket of the supervisor. Undefined when nobody listens at `path`. */
export function connectTo(path: string): Promise<Socket | undefined> {
	return new Promise((resolve) => {
		const socket = connect(path);
		socket.once("error", () => resolve(undefined));
		socket.once("connect", () => resolve(socket));
	});
}

/** Sends a request. Undefined when there is no supervisor at `path`, or when it ends before it answers. */
export async function askSupervisor(path: string, request: LabRequest): Promise<LabAnswer | undefined> {
	const socket = await connectTo(path);
	if (socket === undefined) return undefined;
	try {
		socket.end(`${JSON.stringify(request)}\n`);
		return JSON.parse(await text(socket)) as LabAnswer;
	} catch {
		return undefined;
	} finally {
		socket.destroy();
	}
}

function failure(error: unknown): SupervisorFailure {
	if (!(error instanceof TsvmmError)) {
		return { code: "ERR_LAB_FAILED", message: `Cannot answer a request to the lab: ${explain(error)}` };
	}
	const { code, message, hint } = error;
	return { code, message, ...(hint === undefined ? {} : { hint }) };
}

/** Reads until the other side has ended its half of the connection. The socket can still be written. */
function readAll(socket: Socket): Promise<string> {
	return new Promise((resolve) => {
		let all = "";
		socket.setEncoding("utf8").on("data", (chunk: string) => {
			all += chunk;
		});
		socket.once("end", () => resolve(all));
	});
}

/**
 * Listens at `path` and answers requests.
 *
 * @returns a function that closes the socket
 */
export async function answerRequests(
	path: string,
	answer: (request: LabRequest) => Promise<LabAnswer>,
): Promise<() => Promise<void>> {
	const sockets = new Set<Socket>();
	const server = createServer({ allowHalfOpen: true }, (socket) => {
		sockets.add(socket);
		socket.on("error", () => undefined);
		socket.on("close", () => sockets.delete(socket));
		readAll(socket)
			.then((line) => answer(JSON.parse(line) as LabRequest))
			.catch((error: unknown): LabAnswer => ({ failure: failure(error) }))
			.then((found) => socket.end(`${JSON.stringify(found)}\n`));
	});
	await new Promise<void>((resolve, reject) => {
		server.once("error", reject);
		server.listen(path, () => resolve());
	});
	return async () => {
		const closed = new Promise<void>((resolve) => server.close(() => resolve()));
		for (const socket of sockets) socket.destroySoon();
		await closed;
	};
}
