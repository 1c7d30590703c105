/*
 * A TCP server of this thread's network namespace that gets connections to all ports of the loopback (TPROXY,
 * iptables-extensions(8)). `localPort` of a connection is the port that its client has asked for. The rule belongs to the
 * namespace and goes with it.
 */
import { createServer, type Server, type Socket } from "node:net";
import { run } from "./command.ts";
import { errnoNameOf, transparentSocket } from "./libc.ts";

/**
 * Takes all TCP connections to 127.0.0.0/8. Both directions of one end by themselves.
 *
 * @throws Error with what the system call says; what `run` throws for iptables
 */
export async function serveLoopback(onConnection: (socket: Socket) => void): Promise<Server> {
	const fd = transparentSocket();
	if (fd < 0) throw Object.assign(new Error(errnoNameOf(-fd)), { code: errnoNameOf(-fd) });
	const server = createServer({ allowHalfOpen: true }, onConnection);
	try {
		await new Promise<void>((resolve, reject) => {
			server.once("error", reject);
			server.listen({ fd }, resolve);
		});
		const { port } = server.address() as { port: number };
		/* What follows the first packet finds its socket by itself. */
		const matched = ["-i", "lo", "-d", "127.0.0.0/8", "-p", "tcp", "--syn"];
		const target = ["-j", "TPROXY", "--on-ip", "127.0.0.1", "--on-port", `${port}`];
		await run("iptables", ["-w", "10", "-t", "mangle", "-A", "PREROUTING", ...matched, ...target]);
		return server;
	} catch (error) {
		server.close();
		throw error;
	}
}
