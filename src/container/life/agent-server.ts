/*
 * The socket of a container's supervisor by which others reach the agent in its guest.
 */
import { createServer, type Server } from "node:net";
import type { AgentBroker } from "../../agent/broker.ts";

/** Clients of the agent come and go at `path`. They are cut off while there is none. @returns what ends that */
export async function serveAgent(path: string, broker: () => AgentBroker | undefined): Promise<() => Promise<void>> {
	const server: Server = createServer((socket) => {
		socket.on("error", () => undefined);
		const agent = broker();
		if (agent === undefined) socket.destroy();
		else agent.attach(socket);
	});
	await new Promise<void>((resolve, reject) => {
		server.once("error", reject);
		server.listen(path, () => resolve());
	});
	return () => new Promise((resolve) => server.close(() => resolve()));
}
