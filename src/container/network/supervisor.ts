/*
 * A network's supervisor: the process that is the network while containers are on it. It is started by the first that
 * joins (join.ts), and ends when the last has left. In it are
 *
 *     members' machines --unix socket--> SocketPort --> EthernetSwitch <-- SwitchHost: name server, DHCP server
 *     join, inspect ----control socket-> NetworkMembers
 *
 * The way out is not here: each member has one of its own (backends/uplink-net.ts).
 */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { STREAM_MTU } from "../../backends/frame-stream.ts";
import { DHCP_SERVER_PORT, dhcpServer } from "../../backends/switch/dhcp-server.ts";
import { EthernetSwitch } from "../../backends/switch/ethernet-switch.ts";
import { HostResolver } from "../../backends/switch/host-resolver.ts";
import { DNS_PORT, nameServer } from "../../backends/switch/name-server.ts";
import { addressBytes } from "../../backends/switch/packets.ts";
import { SwitchHost } from "../../backends/switch/switch-host.ts";
import { HostError } from "../../base/errors.ts";
import { Teardown } from "../../base/teardown.ts";
import { tryLockFile } from "../../host/file-lock.ts";
import { answerRequests, failureOf } from "../../host/request-socket.ts";
import { askNetwork, type NetworkAnswer, type NetworkRequest } from "./control.ts";
import { NetworkMembers } from "./members.ts";
import { type Network, NetworkSockets, type NetworkStore } from "./store.ts";
import { Subnet } from "./subnet.ts";

/** How long it stays without members. */
const LINGER_MS = 2000;

/**
 * Is the network until it has no members. Resolves then.
 *
 * @param onReady called when it can be joined
 * @throws HostError ERR_NETWORK_RUNNING when another process is it
 */
export async function superviseNetwork(store: NetworkStore, network: Network, onReady: () => void): Promise<void> {
	const path = join(store.pathOf(network), "lock");
	const lock = await open(path, "a+");
	const teardown = new Teardown();
	teardown.add(() => lock.close());
	try {
		if (!tryLockFile(lock.fd, "exclusive", path)) {
			throw new HostError("ERR_NETWORK_RUNNING", `Cannot start network ${network.name}: it is running already`);
		}
		await serve(store, network, { teardown, onReady });
	} finally {
		await teardown.run();
	}
}

async function serve(
	store: NetworkStore,
	network: Network,
	{ teardown, onReady }: { teardown: Teardown; onReady: () => void },
): Promise<void> {
	const sockets = new NetworkSockets(network);
	/* What a supervisor that was killed has left. */
	rmSync(sockets.directory, { recursive: true, force: true });
	mkdirSync(sockets.directory, { recursive: true, mode: 0o700 });
	chmodSync(sockets.directory, 0o700);
	teardown.add(() => rmSync(sockets.directory, { recursive: true, force: true }));
	let linger: NodeJS.Timeout | undefined;
	let end: () => void = () => undefined;
	const ended = new Promise<void>((resolve) => {
		end = resolve;
	});
	const wire = new EthernetSwitch();
	const members = new NetworkMembers(network, sockets, { wire, onChange: () => watch() });
	const watch = () => {
		clearTimeout(linger);
		if (members.count === 0) linger = setTimeout(end, LINGER_MS);
	};
	teardown.owns(members);
	addServices(wire, network, { members, elsewhere: lookUpElsewhere(store, network) });
	for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
		process.on(name, end);
		teardown.add(() => void process.off(name, end));
	}
	teardown.add(await answerRequests(sockets.control, (request) => answer(request as NetworkRequest, members)));
	onReady();
	watch();
	await ended;
	clearTimeout(linger);
}

/** The network's own host, at the last address: it tells names and addresses. */
function addServices(
	wire: EthernetSwitch,
	{ subnet: text, gateway, internal }: Network,
	{ members, elsewhere }: { members: NetworkMembers; elsewhere: LookUpElsewhere },
): void {
	const subnet = Subnet.parse(text);
	const address = addressBytes(subnet.lastHost);
	const resolver = new HostResolver();
	new SwitchHost(wire, { mac: Buffer.from([0x52, 0x54, ...address]), address })
		.serve(
			DNS_PORT,
			nameServer({
				lookUp: async (name, mac) => members.lookUp(name) ?? (await elsewhere(name, members.withMac(mac)?.id)),
				forward: async (query) => (internal ? undefined : resolver.ask(query)),
			}),
		)
		.serve(
			DHCP_SERVER_PORT,
			dhcpServer({
				server: subnet.lastHost,
				mask: subnet.mask,
				router: internal ? undefined : gateway,
				nameServer: subnet.lastHost,
				mtu: STREAM_MTU,
				addressOf: (mac) => members.withMac(mac)?.address,
			}),
		);
}

type LookUpElsewhere = (name: string, asker: string | undefined) => Promise<readonly string[] | undefined>;

/** A member may be on other networks, too, and finds the names of all of them at any of their name servers. */
function lookUpElsewhere(store: NetworkStore, { id }: Network): LookUpElsewhere {
	return async (name, asker) => {
		if (asker === undefined) return undefined;
		try {
			const others = store.list().filter((network) => network.id !== id);
			const asked = others.map((network) => askNetwork(new NetworkSockets(network), { do: "lookUp", name, asker }));
			return (await Promise.all(asked)).find((found) => found?.addresses !== undefined)?.addresses;
		} catch {
			/* The record of another network is damaged, which is no reason to answer nothing here. */
			return undefined;
		}
	};
}

async function answer(request: NetworkRequest, members: NetworkMembers): Promise<NetworkAnswer> {
	try {
		if (request.do === "list") return { members: members.list() };
		if (request.do === "lookUp") {
			const addresses = members.lookUpFor(request.asker, request.name);
			return addresses === undefined ? {} : { addresses };
		}
		return { membership: await members.join(request.applicant) };
	} catch (error) {
		return { failure: failureOf(error, "ERR_NETWORK_FAILED") };
	}
}
