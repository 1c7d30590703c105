/*
 * Publishes on this machine the ports that a program publishes in the lab. A listener here accepts connections. For
 * each connection busybox nc runs in the lab and connects to the port there; its standard streams carry the bytes. UDP
 * has a relay of its own (published-datagrams.ts). All ends with the command.
 */
import { createServer, type Server, type Socket } from "node:net";
import { relay } from "../agent/relay.ts";
import type { PortForward } from "../backends/passt-ports.ts";
import { portInUse } from "../backends/passt-ports.ts";
import { errnoName, explain, HostError } from "../base/errors.ts";
import type { Lab } from "./lab.ts";
import { PublishedDatagrams } from "./published-datagrams.ts";

/**
 * Listens on each port. A connection is closed at once when no program in the lab listens on the port.
 *
 * @param program the command that starts this tsvmm in the lab
 * @returns a function that closes all listeners and connections
 * @throws HostError ERR_PORT_IN_USE, ERR_PORT
 */
export async function publishPorts(
	lab: Lab,
	ports: readonly PortForward[],
	program: readonly string[],
): Promise<() => void> {
	const servers: Server[] = [];
	const sockets = new Set<Socket>();
	let datagrams: PublishedDatagrams | undefined;
	const close = () => {
		datagrams?.close();
		for (const server of servers) server.close();
		for (const socket of sockets) socket.destroy();
	};
	try {
		for (const port of ports.filter(({ protocol }) => protocol === "tcp")) {
			const server = createServer({ allowHalfOpen: true }, (socket) => {
				sockets.add(socket);
				socket.once("close", () => sockets.delete(socket));
				connect(lab, port, socket).catch(() => socket.destroy());
			});
			servers.push(server);
			await listen(server, port);
		}
		const udp = ports.filter(({ protocol }) => protocol === "udp");
		datagrams = await PublishedDatagrams.open(udp, (targets) =>
			lab.spawn([...program, "lab", "relay-datagrams", ...targets]),
		);
	} catch (error) {
		close();
		throw error;
	}
	return close;
}

async function connect(lab: Lab, { hostAddress = "127.0.0.1", hostPort }: PortForward, socket: Socket): Promise<void> {
	const address = hostAddress === "0.0.0.0" ? "127.0.0.1" : hostAddress;
	relay(socket, await lab.spawn(["busybox", "nc", address, `${hostPort}`]));
}

function listen(server: Server, port: PortForward): Promise<void> {
	return new Promise((resolve, reject) => {
		server.once("error", (error) => {
			const known = errnoName(error) === "EADDRINUSE";
			const message = `Cannot publish port ${port.hostPort} of the lab: ${explain(error)}`;
			reject(known ? portInUse(port, error) : new HostError("ERR_PORT", message, { cause: error }));
		});
		server.listen({ port: port.hostPort, host: port.hostAddress ?? "0.0.0.0" }, resolve);
	});
}
