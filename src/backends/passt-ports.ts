/*
 * Checks the host's ports that passt will forward to the guest. passt says only that it could not bind one. So each is
 * bound here first, and the error names the port and the reason.
 */
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { errnoName, explain, HostError } from "../base/errors.ts";

/** A port of the host that leads to a port of the guest (a net of kind "user"). */
export interface PortForward {
	/** Where the host listens; every address of the host when missing. */
	hostAddress?: string;
	/** 1 to 65535. */
	hostPort: number;
	/** 1 to 65535. */
	guestPort: number;
	/** What is forwarded. */
	protocol: "tcp" | "udp";
}

/** @throws HostError ERR_PORT_IN_USE or ERR_PORT, which names the first port that cannot be bound */
export async function claimPorts(ports: readonly PortForward[]): Promise<void> {
	for (const port of ports) {
		try {
			await (port.protocol === "tcp" ? tryTcp(port) : tryUdp(port));
		} catch (error) {
			if (errnoName(error) === "EADDRINUSE") throw portInUse(port, error);
			throw new HostError("ERR_PORT", `Cannot forward ${named(port)}: ${explain(error)}`, {
				hint: port.hostPort < 1024 ? "Use a higher port: those below 1024 need privileges" : undefined,
				cause: error,
			});
		}
	}
}

export function portInUse(port: PortForward, cause: unknown): HostError {
	return new HostError("ERR_PORT_IN_USE", `Cannot forward ${named(port)}: the port is in use`, {
		hint: `See who has it: ss -lp 'sport = :${port.hostPort}'`,
		cause,
	});
}

function named({ hostAddress, hostPort, protocol }: PortForward): string {
	return `${protocol} port ${hostAddress === undefined ? "" : `${hostAddress}:`}${hostPort}`;
}

function tryTcp({ hostAddress = "0.0.0.0", hostPort }: PortForward): Promise<void> {
	return new Promise((resolve, reject) => {
		const server = createServer();
		server.once("error", reject);
		server.listen({ port: hostPort, host: hostAddress, exclusive: true }, () => server.close(() => resolve()));
	});
}

function tryUdp({ hostAddress = "0.0.0.0", hostPort }: PortForward): Promise<void> {
	return new Promise((resolve, reject) => {
		const socket = createSocket("udp4");
		socket.once("error", (error) => {
			socket.close();
			reject(error);
		});
		socket.bind({ port: hostPort, address: hostAddress, exclusive: true }, () => socket.close(() => resolve()));
	});
}
