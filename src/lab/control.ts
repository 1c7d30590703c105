/*
 * What a command asks of a lab's supervisor before it starts programs, over a unix socket of its own: one line of JSON
 * there, one back. Whoever reaches the socket is the lab's own user (paths.ts).
 */
import { connect, createServer, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { explain, TsvmmError } from "../base/errors.ts";
import type { SupervisorFailure } from "./paths.ts";
import type { Share } from "./shares.ts";

/** Changes with the two interfaces below, and with what a supervisor does for a command. */
export const CONTROL_PROTOCOL = 1;

/** What a command needs. The supervisor looks whether the lab runs programs, whatever it is. */
export interface LabRequest {
	shares: readonly Share[];
}

export interface LabAnswer {
	/** Why the lab is of no use any more; it is about to end. */
	broken?: string;
	/** What could not be done. */
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

/** Asks the supervisor. Undefined when there is none at `path`, or when it ends meanwhile. */
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

/** All that comes until the other side has ended its half; the socket can still be written. */
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
 * Answers requests at `path`.
 *
 * @returns what ends that
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
