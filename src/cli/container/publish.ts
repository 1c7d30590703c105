/*
 * Ports that are published without a number of this host: `-p 80`, and with -P each EXPOSEd port. A number is chosen once,
 * when the container is made. In the lab the same number is wanted there and here, so it is chosen here and handed over by
 * --host-ports.
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import type { PortForward } from "../../backends/passt-ports.ts";
import { HostError, UsageError } from "../../base/errors.ts";
import { publishedPorts } from "../../container/life/config.ts";
import { ContainerStore } from "../../container/life/store.ts";
import { parsePorts } from "../options.ts";

export interface PublishFlags {
	/** hostPort 0: any that is free. */
	publish: PortForward[];
	publishAll: boolean;
	/** What another tsvmm has chosen for the ports without a number, in order. */
	hostPorts?: string;
}

/** How often a number may turn out to be another container's. */
const ATTEMPTS = 100;

/** Docker's -p: as parsePorts, and "80", "80-90/udp", "127.0.0.1::80", whose numbers on this host are 0. */
export function parsePublish(text: string): PortForward[] {
	const [, address, guest, protocol = ""] =
		/^(?:(\d+\.\d+\.\d+\.\d+):?:|:)?(\d+(?:-\d+)?)(\/(?:tcp|udp))?$/.exec(text) ?? [];
	if (guest === undefined || (address !== undefined && !text.startsWith(`${address}::`))) return parsePorts(text);
	const prefix = address === undefined ? "" : `${address}:`;
	return parsePorts(`${prefix}${guest}:${guest}${protocol}`).map((port) => ({ ...port, hostPort: 0 }));
}

/** Docker's --expose: "80", "53/udp", "8000-8010". @throws UsageError ERR_OPTION_PORT */
export function parseExpose(text: string): string[] {
	if (!/^\d+(-\d+)?(\/(tcp|udp))?$/.test(text)) throw unreadable(text);
	return parsePublish(text).map(({ guestPort, protocol }) => `${guestPort}/${protocol}`);
}

/**
 * All ports that are published, each with a number of this host. As in Docker, -P passes over a port that -p names.
 *
 * @param exposed "80/tcp", the image's and --expose's
 * @returns the ports, and the numbers that were chosen
 * @throws HostError ERR_PORT when no number is free
 */
export async function hostPortsFor(
	flags: PublishFlags,
	exposed: readonly string[],
): Promise<{ publish: PortForward[]; chosen: number[] }> {
	const named = new Set(flags.publish.map(({ guestPort, protocol }) => `${guestPort}/${protocol}`));
	const more = flags.publishAll ? exposed.filter((port) => !named.has(port)).flatMap(parsePublish) : [];
	const wanted = [...flags.publish, ...more];
	const given = flags.hostPorts?.split(",").map(Number) ?? [];
	const taken = new Set(wanted.map(({ hostPort }) => hostPort));
	if (taken.has(0)) for (const port of othersPorts()) taken.add(port);
	const publish: PortForward[] = [];
	const chosen: number[] = [];
	for (const port of wanted) {
		if (port.hostPort !== 0) publish.push(port);
		else {
			const hostPort = given.shift() ?? (await freePort(port, taken));
			taken.add(hostPort);
			chosen.push(hostPort);
			publish.push({ ...port, hostPort });
		}
	}
	return { publish, chosen };
}

/** The words of a command line for the lab, with the numbers that were chosen here. */
export function withHostPorts(words: readonly string[], chosen: readonly number[]): string[] {
	if (chosen.length === 0) return [...words];
	const at = words.findIndex((word) => word === "run" || word === "create") + 1;
	return [...words.slice(0, at), "--host-ports", chosen.join(","), ...words.slice(at)];
}

/** Those of containers that do not run are wanted again. */
function othersPorts(): number[] {
	return new ContainerStore().list().flatMap(({ config }) => publishedPorts(config).map(({ hostPort }) => hostPort));
}

async function freePort(port: PortForward, taken: ReadonlySet<number>): Promise<number> {
	for (let i = 0; i < ATTEMPTS; i++) {
		const found = await (port.protocol === "tcp" ? anyTcp(port) : anyUdp(port));
		if (!taken.has(found)) return found;
	}
	throw new HostError("ERR_PORT", `Cannot find a free port of this machine for ${port.guestPort}/${port.protocol}`);
}

async function anyTcp({ hostAddress = "0.0.0.0" }: PortForward): Promise<number> {
	const server = createServer();
	server.listen({ port: 0, host: hostAddress });
	await once(server, "listening").catch((error: unknown) => {
		throw unbindable(hostAddress, error);
	});
	const { port } = server.address() as AddressInfo;
	await new Promise((resolve) => server.close(resolve));
	return port;
}

async function anyUdp({ hostAddress = "0.0.0.0" }: PortForward): Promise<number> {
	const socket = createSocket("udp4");
	socket.bind({ port: 0, address: hostAddress });
	await once(socket, "listening").catch((error: unknown) => {
		socket.close();
		throw unbindable(hostAddress, error);
	});
	const { port } = socket.address();
	await new Promise<void>((resolve) => socket.close(resolve));
	return port;
}

function unbindable(address: string, cause: unknown): HostError {
	return new HostError("ERR_PORT", `Cannot publish a port at ${address}: this machine cannot listen there`, { cause });
}

function unreadable(text: string): UsageError {
	return new UsageError("ERR_OPTION_PORT", `Cannot read port "${text}"`, {
		hint: "Write PORT[/udp] or a range, as in 80 or 8000-8010",
	});
}
