/*
 * A connection of the host whose other end is netcat in a guest.
 */
import type { Socket } from "node:net";
import { pipeline } from "node:stream";
import { finished } from "node:stream/promises";
import { ignore } from "../base/errors.ts";
import { exitStatus, type Session } from "./session.ts";

/**
 * Carries bytes between a connection, which may be half open, and a process. When the process has failed, because it could
 * not connect either, the connection is reset. When the connection has closed, the process is ended.
 */
export function relay(socket: Socket, session: Session): void {
	const { stdin, stdout, stderr, exit } = session;
	stderr.resume();
	socket.once("close", () => {
		session.close();
		stdout.resume();
	});
	pipeline(socket, stdin, ignore);
	stdout.pipe(socket, { end: false });
	Promise.all([exit, finished(stdout)]).then(
		([status]) => (exitStatus(status) === 0 ? socket.end() : socket.resetAndDestroy()),
		() => socket.destroy(),
	);
}
