/*
 * The network of a machine, as config.json has it (config-linux.md, "Network"). The caller has put an interface with
 * addresses into a network namespace (a veth, by CNI or netavark). The guest gets an interface with the same hardware
 * address, addresses and routes. Frames go between the two by a tap in that namespace:
 *
 *     network <-> veth <--tc redirect--> tap <-> guest's virtio-net
 *
 * The redirection is before the namespace's own network stack, which sees nothing of it.
 */
import type { AgentClient } from "../agent/client.ts";
import { explain, ignore } from "../base/errors.ts";
import type { Teardown } from "../base/teardown.ts";
import type { ContainerNetwork } from "../container/run.ts";
import { run } from "../host/command.ts";
import { enterNetworkNamespace } from "../host/namespace.ts";
import type { Config } from "./bundle.ts";
import { runTool } from "./group.ts";
import { OciError } from "./runtime-error.ts";

export interface SandboxNetwork {
	devices: ContainerNetwork[];
	/** Gives the guest its addresses and routes. */
	configure(client: AgentClient): Promise<void>;
}

/** What `ip -json address` tells of an interface. */
interface Interface {
	ifname: string;
	link_type: string;
	address: string;
	mtu: number;
	flags: string[];
	addr_info: { family: string; local: string; prefixlen: number; scope: string }[];
}

/** What `ip -json route` tells of a route. */
interface Route {
	dst: string;
	gateway?: string;
	dev: string;
	protocol?: string;
	metric?: number;
	flags?: string[];
}

/** An entry of the neighbour table that somebody has put there. */
interface Neighbour {
	dst: string;
	dev: string;
	lladdr?: string;
}

/** An interface of the namespace, and what belongs to it. */
interface Link {
	name: string;
	tap: string;
	mac: string;
	mtu: number;
	addresses: Interface["addr_info"];
	routes: Route[];
	neighbours: Neighbour[];
}

/**
 * The network of a container that has its own machine. A new network namespace has nothing but loopback, and so has the
 * guest. Without a network namespace a container of runc is on the host's network; here it reaches that through passt.
 *
 * From then on this process is in the container's network namespace.
 *
 * @param teardown removes what was made there
 * @throws OciError ERR_OCI_NETWORK
 */
export async function sandboxNetwork({ linux }: Config, teardown: Teardown): Promise<SandboxNetwork> {
	const namespace = linux?.namespaces.find(({ type }) => type === "network");
	if (namespace === undefined) return { devices: [{ device: { kind: "user" } }], configure: async () => undefined };
	if (namespace.path === undefined || namespace.path === "") return { devices: [], configure: async () => undefined };
	try {
		enterNetworkNamespace(namespace.path);
		await removeStale();
		const links = await readLinks();
		for (const link of links) await redirect(link, teardown);
		return {
			devices: links.map(({ tap, mac, mtu }) => ({ device: { kind: "tap", name: tap, mac }, mtu })),
			configure: async (client) => {
				const names = await freeNames(client, links);
				for (const [i, link] of links.entries()) await configure(client, link, names[i]!);
			},
		};
	} catch (cause) {
		throw new OciError("ERR_OCI_NETWORK", `joining network namespace ${namespace.path}: ${explain(cause)}`, { cause });
	}
}

async function ip<T>(...words: string[]): Promise<T[]> {
	const { stdout } = await run("ip", ["-json", ...words]);
	return JSON.parse(stdout === "" ? "[]" : stdout) as T[];
}

/** A machine that was killed has left its taps, which nobody has open any more. */
async function removeStale(): Promise<void> {
	for (const { ifname, flags } of await ip<Interface>("link"))
		if (/^tsvmm\d+$/.test(ifname) && flags.includes("NO-CARRIER")) await run("ip", ["link", "delete", ifname]);
}

async function readLinks(): Promise<Link[]> {
	const [interfaces, routes, routes6, neighbours] = await Promise.all([
		ip<Interface>("address"),
		ip<Route>("-4", "route"),
		ip<Route>("-6", "route"),
		ip<Neighbour>("neighbour", "show", "nud", "permanent"),
	]);
	return interfaces
		.filter(({ link_type, flags }) => link_type === "ether" && flags.includes("UP"))
		.map(({ ifname, address, mtu, addr_info }, i) => ({
			...{ name: ifname, tap: `tsvmm${i}`, mac: address, mtu },
			addresses: addr_info.filter(({ scope }) => scope !== "link"),
			/* The kernel makes those of an address by itself. */
			routes: [...routes, ...routes6].filter(({ dev, protocol }) => dev === ifname && protocol !== "kernel"),
			neighbours: neighbours.filter(({ dev, lladdr }) => dev === ifname && lladdr !== undefined),
		}));
}

/** Makes the tap, and leads all that comes in on one of the two out of the other. */
async function redirect({ name, tap, mtu }: Link, teardown: Teardown): Promise<void> {
	await run("ip", ["tuntap", "add", "dev", tap, "mode", "tap", "vnet_hdr"]);
	teardown.add(async () => {
		await run("tc", ["qdisc", "del", "dev", name, "ingress"]).catch(ignore);
		await run("ip", ["link", "delete", tap]).catch(ignore);
	});
	await run("ip", ["link", "set", tap, "mtu", `${mtu}`, "up"]);
	for (const [from, to] of [
		[name, tap],
		[tap, name],
	] as const) {
		/* That of a machine which was killed leads nowhere. */
		await run("tc", ["qdisc", "del", "dev", from, "ingress"]).catch(ignore);
		await run("tc", ["qdisc", "add", "dev", from, "ingress"]);
		const redirected = ["action", "mirred", "egress", "redirect", "dev", to];
		await run("tc", ["filter", "add", "dev", from, "ingress", "protocol", "all", "matchall", ...redirected]);
	}
}

/** Makes way for the namespace's names in the guest, whose interfaces may have them in another order. @returns theirs */
async function freeNames(client: AgentClient, links: readonly Link[]): Promise<string[]> {
	const own = links.map((_, i) => `eth${i}`);
	if (links.every(({ name }, i) => name === own[i] || !own.includes(name))) return own;
	const free = links.map((_, i) => `tsvmm${i}`);
	const commands = own.map((name, i) => `ip link set ${name} down\nip link set ${name} name ${free[i]}`);
	await runTool(client, ["sh", "-ec", commands.join("\n")]);
	return free;
}

/** In the guest: what the namespace's interface has. @param device what the guest calls it so far */
async function configure(client: AgentClient, link: Link, device: string): Promise<void> {
	const { name, mtu, addresses, routes, neighbours } = link;
	const commands = [
		`ip link set ${device} down`,
		...(name === device ? [] : [`ip link set ${device} name ${name}`]),
		`ip link set ${name} mtu ${mtu} up`,
		...addresses.map(({ local, prefixlen }) => `ip address add ${local}/${prefixlen} dev ${name}`),
		/* A gateway must be reachable before a route leads through it. Two may lead to the same place. */
		...[...routes].sort((one, other) => rank(one) - rank(other)).map((route) => `ip route append ${words(route)}`),
		...neighbours.map(({ dst, lladdr }) => `arp -i ${name} -s ${dst} ${lladdr}`),
	];
	await runTool(client, ["sh", "-ec", commands.join("\n")]);
}

function rank({ gateway }: Route): number {
	return gateway === undefined ? 0 : 1;
}

function words({ dst, gateway, dev, metric, flags = [] }: Route): string {
	return [
		dst,
		...(gateway === undefined ? [] : ["via", gateway]),
		...["dev", dev],
		...(metric === undefined ? [] : ["metric", `${metric}`]),
		...(flags.includes("onlink") ? ["onlink"] : []),
	].join(" ");
}
