/*
 * The loopback of a pod's network namespace, led to the one of its machine. To forward a port, containerd connects to
 * localhost in the namespace, where a program of a container of runc's would listen.
 *
 *     kubectl port-forward -> containerd -> 127.0.0.1:80 -> this -> agent: nc -> the guest's 127.0.0.1:80, or [::1]:80
 */
import type { Server, Socket } from "node:net";
import type { AgentClient } from "../agent/client.ts";
import { relay } from "../agent/relay.ts";
import { ignore } from "../base/errors.ts";
import { serveLoopback } from "../host/transparent-server.ts";

/** In the agent's own root. $0: the port, as /proc/net/tcp has it; $1: in decimal. 0A is LISTEN. */
const CONNECT = `
	if grep -q ": \\(0100007F\\|00000000\\):$0 00000000:0000 0A" /proc/net/tcp; then exec nc 127.0.0.1 "$1"; fi
	if grep -q ": 0*\\(01000000\\)\\?:$0 0*:0000 0A" /proc/net/tcp6; then exec nc ::1 "$1"; fi
	exit 1`;

export class Loopback {
	readonly #server: Server;
	readonly #sockets: ReadonlySet<Socket>;

	/**
	 * Takes over the loopback of this thread's network namespace.
	 *
	 * @param client of the machine's agent
	 * @throws what `serveLoopback` throws
	 */
	static async open(client: AgentClient): Promise<Loopback> {
		const sockets = new Set<Socket>();
		const server = await serveLoopback((socket) => {
			sockets.add(socket);
			socket.once("close", () => sockets.delete(socket));
			socket.on("error", ignore);
			forward(client, socket).catch(() => socket.resetAndDestroy());
		});
		return new Loopback(server, sockets);
	}

	private constructor(server: Server, sockets: ReadonlySet<Socket>) {
		this.#server = server;
		this.#sockets = sockets;
	}

	close(): void {
		this.#server.close();
		for (const socket of this.#sockets) socket.destroy();
	}
}

/** Leads a connection to the same port in the guest. It is reset when nobody listens there. */
export async function forward(client: AgentClient, socket: Socket): Promise<void> {
	const port = socket.localPort!;
	const hex = port.toString(16).toUpperCase().padStart(4, "0");
	relay(socket, await client.exec({ tool: "busybox", args: ["sh", "-c", CONNECT, hex, `${port}`] }));
}
