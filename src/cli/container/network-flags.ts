/*
 * The flags of `run` and `create` about the container's network.
 */
import { isIPv4 } from "node:net";
import type { PortForward } from "../../backends/passt-ports.ts";
import { UsageError } from "../../base/errors.ts";
import type { ConfiguredNetwork, NamedNetwork } from "../../container/life/config.ts";
import { NetworkStore } from "../../container/network/store.ts";
import { Subnet } from "../../container/network/subnet.ts";
import { isName } from "../../container/record-directory.ts";
import { findTool } from "../../host/tools.ts";
import { needsLab } from "../../lab/host.ts";
import type { NetConfig } from "../../machine/devices/net.ts";
import { parseNet } from "../options.ts";

export interface NetworkFlags {
	dns: string[];
	dnsOption: string[];
	dnsSearch: string[];
	gateway?: string;
	ip?: string;
	network?: string;
	networkAlias: string[];
	publish: PortForward[];
	/** Ports that only the image knows are published, too. */
	publishAll: boolean;
}

/** @throws UsageError for flags that do not go together; HostError ERR_NETWORK_NOT_FOUND */
export function readNetwork(flags: NetworkFlags, note: (line: string) => void): ConfiguredNetwork | undefined {
	const device = readDevice(flags.network ?? defaultNetwork(flags, note), flags);
	const { publish, ip, gateway, dns, dnsSearch, dnsOption, networkAlias } = flags;
	if ((publish.length > 0 || flags.publishAll) && device?.kind !== "user" && device?.kind !== "network") {
		throw new UsageError("ERR_RUN_PUBLISH", `Cannot publish ports on network "${flags.network}"`, {
			hint: "Use --network user, or a network of tsvmm network ls",
		});
	}
	if (networkAlias.length > 0 && device?.kind !== "network") {
		throw new UsageError("ERR_RUN_ALIAS", "Cannot give the container another name: that takes --network NAME", {
			hint: "Make a network with tsvmm network create NAME",
		});
	}
	if (
		(ip !== undefined && device?.kind !== "network" && device?.kind !== "tap") ||
		(gateway !== undefined && device?.kind !== "tap")
	) {
		throw new UsageError(
			"ERR_RUN_ADDRESS",
			"Cannot choose the guest's address: that takes --net tap=NAME or --net NAME",
		);
	}
	if (device === undefined) return undefined;
	for (const address of [ip?.replace(/\/([0-9]|[12][0-9]|3[0-2])$/, ""), gateway, ...dns]) checkAddress(address);
	return {
		device,
		...(ip === undefined ? {} : { address: device.kind === "network" ? memberAddress(device, ip) : withPrefix(ip) }),
		...(gateway === undefined ? {} : { gateway }),
		...(dns.length === 0 ? {} : { dns }),
		...(dnsSearch.length === 0 ? {} : { dnsSearch }),
		...(dnsOption.length === 0 ? {} : { dnsOptions: dnsOption }),
	};
}

function readDevice(text: string, { publish, networkAlias }: NetworkFlags): NetConfig | NamedNetwork | undefined {
	if (text === "host") {
		throw new UsageError("ERR_OPTION_NET", "Cannot use the host's own network: a machine has a network of its own", {
			hint: "Use --network tap=NAME, or publish ports with -p",
		});
	}
	/* Docker's names for the network that a container has when nothing is said. */
	const device = text === "bridge" || text === "default" ? parseNet("user") : undefined;
	if (device === undefined && isName(text) && text !== "none" && text !== "user") {
		const { name } = new NetworkStore().find(text);
		return { kind: "network", name, aliases: networkAlias, ports: publish };
	}
	const found = device ?? parseNet(text);
	if (found?.kind === "user") found.ports = [...(found.ports ?? []), ...publish];
	return found;
}

/** A container has a network, as in Docker. Without passt it has none, unless ports are published. */
function defaultNetwork({ publish, publishAll }: NetworkFlags, note: (line: string) => void): string {
	if (publish.length > 0 || publishAll || findTool("passt") !== undefined) return "user";
	if (!needsLab()) note("the container has no network: passt is not installed");
	return "none";
}

/** @throws UsageError ERR_RUN_ADDRESS for an address that is not of the network */
export function memberAddress({ name }: NamedNetwork, address: string): string {
	const { subnet, gateway } = new NetworkStore().find(name);
	const { lastHost } = Subnet.parse(subnet);
	if (Subnet.parse(subnet).hasHost(address) && address !== gateway && address !== lastHost) return address;
	throw new UsageError("ERR_RUN_ADDRESS", `Cannot have address ${address} on network ${name}`, {
		hint: `Choose one of ${subnet}; ${gateway} and ${lastHost} are the network's own`,
	});
}

function withPrefix(address: string): string {
	return address.includes("/") ? address : `${address}/24`;
}

function checkAddress(address: string | undefined): void {
	if (address === undefined || isIPv4(address)) return;
	throw new UsageError("ERR_RUN_ADDRESS", `Cannot read IPv4 address "${address}"`);
}
