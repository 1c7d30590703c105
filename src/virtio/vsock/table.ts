/*
 * The connections of a vsock device, by host port, then by guest port: finding one makes no key object per packet.
 */
import type { Connection } from "./connection.ts";

/** Host-side ports of connections that the host begins. */
const FIRST_HOST_PORT = 0x4000_0000;
const LAST_HOST_PORT = 0xffff_fffe;

export class ConnectionTable {
	readonly #ports = new Map<number, Map<number, Connection>>();
	#size = 0;
	#nextHostPort = FIRST_HOST_PORT;

	/** Number of connections. */
	get size(): number {
		return this.#size;
	}

	get(hostPort: number, guestPort: number): Connection | undefined {
		return this.#ports.get(hostPort)?.get(guestPort);
	}

	/** The caller has seen that there is no such connection yet. */
	add(connection: Connection): void {
		const { hostPort, guestPort } = connection;
		let ports = this.#ports.get(hostPort);
		if (ports === undefined) {
			ports = new Map();
			this.#ports.set(hostPort, ports);
		}
		ports.set(guestPort, connection);
		this.#size++;
	}

	/** The connection must be there. */
	remove({ hostPort, guestPort }: Connection): void {
		const ports = this.#ports.get(hostPort)!;
		ports.delete(guestPort);
		if (ports.size === 0) this.#ports.delete(hostPort);
		this.#size--;
	}

	/** All of them, as they are now. */
	all(): Connection[] {
		return [...this.#ports.values()].flatMap((ports) => [...ports.values()]);
	}

	/** A host-side port that no connection with `guestPort` has. */
	freePort(guestPort: number): number {
		for (;;) {
			const port = this.#nextHostPort;
			this.#nextHostPort = port === LAST_HOST_PORT ? FIRST_HOST_PORT : port + 1;
			if (this.get(port, guestPort) === undefined) return port;
		}
	}
}
