/*
 * Requests to a process of ours, over a unix socket: a client connects, writes one JSON value, ends its half, and reads
 * one JSON value back. An answer may take long; a client that goes away meanwhile gets none.
 */
import { connect, createServer, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { TsvmmError } from "../base/errors.ts";

/** What went wrong in another process, as it travels between processes and lies in files. */
export interface Failure {
	code: string;
	message: string;
	hint?: string | undefined;
	exitStatus?: number | undefined;
}

/** More than any request or answer needs. */
const MAX_BYTES = 16 << 20;

/** A connection to a unix socket. Undefined when nobody listens there. */
export function connectTo(path: string): Promise<Socket | undefined> {
	return new Promise((resolve) => {
		const socket = connect(path);
		socket.once("error", () => resolve(undefined));
		socket.once("connect", () => resolve(socket));
	});
}

/** Sends a request. Undefined when nobody listens at `path`, or when it ends before it has answered. */
export async function ask<Answer>(path: string, request: unknown): Promise<Answer | undefined> {
	const socket = await connectTo(path);
	if (socket === undefined) return undefined;
	try {
		socket.end(JSON.stringify(request));
		return JSON.parse(await text(socket)) as Answer;
	} catch {
		return undefined;
	} finally {
		socket.destroy();
	}
}

/**
 * Answers requests at `path`.
 *
 * @param answer its rejection is the server's own business: it should not reject
 * @returns what ends that; answers that are under way are still sent
 */
export async function answerRequests(
	path: string,
	answer: (request: unknown) => Promise<unknown>,
): Promise<() => Promise<void>> {
	const sockets = new Set<Socket>();
	const server = createServer({ allowHalfOpen: true }, (socket) => {
		sockets.add(socket);
		socket.on("close", () => sockets.delete(socket));
		answerRequest(socket, answer);
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

/**
 * Answers the request of one connection, which may be half-open.
 *
 * @param answer as for `answerRequests`
 */
export function answerRequest(socket: Socket, answer: (request: unknown) => Promise<unknown>): void {
	socket.on("error", () => undefined);
	readAll(socket)
		.then((line) => answer(JSON.parse(line)))
		.then((found) => socket.end(JSON.stringify(found)))
		.catch(() => socket.destroy());
}

/** All that comes until the other side has ended its half; the socket can still be written. */
export function readAll(socket: Socket): Promise<string> {
	return new Promise((resolve, reject) => {
		let all = "";
		socket.setEncoding("utf8").on("data", (chunk: string) => {
			all += chunk;
			if (all.length > MAX_BYTES) reject(new Error("the request is too long"));
		});
		socket.once("end", () => resolve(all));
		socket.once("close", () => reject(new Error("the client has gone")));
	});
}

/** An error as it travels. */
export function failureOf(error: unknown, code: string): Failure {
	if (!(error instanceof TsvmmError)) {
		return { code, message: error instanceof Error ? error.message : String(error) };
	}
	const { message, hint, exitStatus } = error;
	return { code: error.code, message, exitStatus, ...(hint === undefined ? {} : { hint }) };
}

/** An error of another process, here. */
export class RemoteError extends TsvmmError {
	override readonly exitStatus: number;

	constructor({ code, message, hint, exitStatus = 125 }: Failure) {
		super(code, message, { hint });
		this.exitStatus = exitStatus;
	}
}
