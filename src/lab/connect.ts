/*
 * A connection to a unix socket of the supervisor.
 */
import { connect, type Socket } from "node:net";

/** Undefined when nobody listens at `path`. */
export function connectTo(path: string): Promise<Socket | undefined> {
	return new Promise((resolve) => {
		const socket = connect(path);
		socket.once("error", () => resolve(undefined));
		socket.once("connect", () => resolve(socket));
	});
}
