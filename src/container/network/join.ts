/*
 * How a container comes onto a network: it asks the network's supervisor, which it starts if there is none.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { STREAM_MTU } from "../../backends/frame-stream.ts";
import type { PortForward } from "../../backends/passt-ports.ts";
import { HostError } from "../../base/errors.ts";
import { launchDetached } from "../../host/detached-process.ts";
import type { ContainerNetwork } from "../run.ts";
import { type Applicant, askNetwork, type Membership } from "./control.ts";
import { type Network, NetworkSockets, NetworkStore } from "./store.ts";
import { Subnet } from "./subnet.ts";

const PATIENCE_MS = 60_000;
const POLL_MS = 50;

/** What a container has on a network, as `inspect` tells it. */
export interface Endpoint extends Membership {
	network: string;
	prefixLength: number;
	/** "" on an internal network. */
	gateway: string;
}

export interface JoinRequest extends Applicant {
	network: string;
	/** Ports of the host that lead to it. */
	ports?: PortForward[] | undefined;
}

/**
 * Joins. The machine must connect within a minute; it is a member as long as it is connected.
 *
 * @throws HostError ERR_NETWORK_NOT_FOUND, ERR_NETWORK_FAILED; RemoteError ERR_NETWORK_ADDRESS, ERR_NETWORK_FULL
 */
export async function joinNetwork(
	{ network: name, ports = [], ...applicant }: JoinRequest,
	signal: AbortSignal,
): Promise<{ endpoint: Endpoint; network: ContainerNetwork }> {
	const store = new NetworkStore();
	const network = store.find(name);
	const { address, mac } = await apply(store, network, { applicant, signal });
	const { gateway, internal } = network;
	const subnet = Subnet.parse(network.subnet);
	const { prefixLength } = subnet;
	const uplink = internal ? undefined : { address, prefixLength, gateway, ports };
	return {
		endpoint: { network: network.name, address, mac, prefixLength, gateway: internal ? "" : gateway },
		network: {
			device: { kind: "stream", path: new NetworkSockets(network).portOf(applicant.id), mac, uplink },
			address: `${address}/${prefixLength}`,
			dns: [subnet.lastHost],
			mtu: STREAM_MTU,
			...(internal ? {} : { gateway }),
		},
	};
}

async function apply(
	store: NetworkStore,
	network: Network,
	{ applicant, signal }: { applicant: Applicant; signal: AbortSignal },
): Promise<Membership> {
	const sockets = new NetworkSockets(network);
	const deadline = performance.now() + PATIENCE_MS;
	while (performance.now() < deadline) {
		signal.throwIfAborted();
		const answer = await askNetwork(sockets, { do: "join", applicant });
		if (answer?.membership !== undefined) return answer.membership;
		/* Nobody is the network, or the one who was has just ended. */
		await start(store, network);
		await sleep(POLL_MS);
	}
	throw new HostError("ERR_NETWORK_FAILED", `Cannot join network ${network.name}: its supervisor does not answer`);
}

/** Starts the supervisor. Another process that does so at the same time is no error. */
async function start(store: NetworkStore, network: Network): Promise<void> {
	const launched = launchDetached({
		words: ["network", "supervise", network.name],
		log: join(store.pathOf(network), "supervisor.log"),
		attempt: `Cannot start network ${network.name}: its supervisor`,
		code: "ERR_NETWORK_FAILED",
	});
	await launched.catch((error: unknown) => {
		if (!(error instanceof Error && "code" in error && error.code === "ERR_NETWORK_RUNNING")) throw error;
	});
}
