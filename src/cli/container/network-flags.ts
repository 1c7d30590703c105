/*
 * The flags of `run` and `create` about the container's network.
 */
import { isIPv4 } from "node:net";
import type { PortForward } from "../../backends/passt-ports.ts";
import { UsageError } from "../../base/errors.ts";
import type { Attachment, Networking } from "../../container/life/config.ts";
import { NetworkStore } from "../../container/network/store.ts";
import { Subnet } from "../../container/network/subnet.ts";
import { isName } from "../../container/record-directory.ts";
import { findTool } from "../../host/tools.ts";
import { needsLab } from "../../lab/host.ts";
import { parseNet } from "../options.ts";

export interface NetworkFlags {
	dns: string[];
	dnsOption: string[];
	dnsSearch: string[];
	gateway?: string;
	ip?: string;
	network: string[];
	networkAlias: string[];
	publish: PortForward[];
	/** Ports that only the image knows are published, too. */
	publishAll: boolean;
}

/**
 * The container's networks; undefined for loopback alone.
 *
 * @throws UsageError for flags that do not go together; HostError ERR_NETWORK_NOT_FOUND
 */
export function readNetwork(flags: NetworkFlags, note: (line: string) => void): Networking | undefined {
	const texts = flags.network.length > 0 ? flags.network : [defaultNetwork(flags, note)];
	const { publish, dns, dnsSearch, dnsOption } = flags;
	const read = texts.flatMap((text, index) => readOne(text, index === 0 ? flags : undefined));
	const attachments = read.map(({ attachment }) => attachment);
	mustGoTogether(texts, attachments);
	const ports = [...read.flatMap((one) => one.ports), ...publish];
	const publishes = ports.length > 0 || flags.publishAll;
	if (publishes && !attachments.some(({ device }) => device.kind === "user" || device.kind === "network")) {
		throw new UsageError("ERR_RUN_PUBLISH", `Cannot publish ports on network "${texts.join('", "')}"`, {
			hint: "Use --network user, or a network of tsvmm network ls",
		});
	}
	dns.forEach(checkAddress);
	if (attachments.length === 0) return undefined;
	return {
		attachments,
		ports,
		...(dns.length === 0 ? {} : { dns }),
		...(dnsSearch.length === 0 ? {} : { dnsSearch }),
		...(dnsOption.length === 0 ? {} : { dnsOptions: dnsOption }),
	};
}

interface ReadNetwork {
	attachment: Attachment;
	/** Of "user,port=8080:80". */
	ports: PortForward[];
}

/** @param flags those about one network, for the first; none for others, whose text says it */
function readOne(text: string, flags: NetworkFlags | undefined): ReadNetwork[] {
	if (text === "host") {
		throw new UsageError("ERR_OPTION_NET", "Cannot use the host's own network: a machine has a network of its own", {
			hint: "Use --network tap=NAME or bridge=NAME, or publish ports with -p",
		});
	}
	const { kept, given } = takeFields(text);
	const aliases = [...(flags?.networkAlias ?? []), ...given.alias];
	const ip = given.ip ?? flags?.ip;
	const gateway = given.gateway ?? flags?.gateway;
	const { device, ports = [] } = readDevice(kept, aliases);
	if (aliases.length > 0 && device?.kind !== "network") {
		throw new UsageError("ERR_RUN_ALIAS", "Cannot give the container another name: that takes --network NAME", {
			hint: "Make a network with tsvmm network create NAME",
		});
	}
	const isHosts = device?.kind === "tap" || device?.kind === "bridge";
	if ((ip !== undefined && device?.kind !== "network" && !isHosts) || (gateway !== undefined && !isHosts)) {
		throw new UsageError(
			"ERR_RUN_ADDRESS",
			"Cannot choose the guest's address: that takes --net tap=NAME, bridge=NAME or --net NAME",
		);
	}
	if (device === undefined) return [];
	for (const address of [ip?.replace(/\/([0-9]|[12][0-9]|3[0-2])$/, ""), gateway]) checkAddress(address);
	const chosen = ip === undefined || device.kind !== "network" ? ip && withPrefix(ip) : memberAddress(device.name, ip);
	return [
		{
			attachment: {
				device,
				...(chosen === undefined ? {} : { address: chosen }),
				...(gateway === undefined ? {} : { gateway }),
			},
			ports,
		},
	];
}

/** "name=blue,ip=10.0.0.5,alias=www", as Docker has it, and the same of a tap or bridge: what is about addresses and names. */
function takeFields(text: string) {
	const given: { alias: string[]; ip?: string; gateway?: string } = { alias: [] };
	const kept = text.split(",").filter((field) => {
		const [, key, value] = /^(alias|ip|gateway)=(.+)$/.exec(field) ?? [];
		if (key === "alias") given.alias.push(value!);
		else if (key !== undefined) given[key as "ip" | "gateway"] = value!;
		return key === undefined;
	});
	return { kept: kept.join(",").replace(/^name=/, ""), given };
}

function readDevice(text: string, aliases: string[]): { device?: Attachment["device"]; ports?: PortForward[] } {
	if (isName(text) && !["bridge", "default", "none", "user"].includes(text)) {
		return { device: { kind: "network", name: new NetworkStore().find(text).name, aliases } };
	}
	/* Docker's names for the network that a container has when nothing is said. */
	const found = parseNet(text === "bridge" || text === "default" ? "user" : text);
	if (found === undefined) return {};
	if (found.kind !== "user") return { device: found as Attachment["device"] };
	const { ports = [], ...device } = found;
	return { device: device as Attachment["device"], ports };
}

/** @throws UsageError ERR_RUN_NETWORKS */
function mustGoTogether(texts: readonly string[], attachments: readonly Attachment[]): void {
	const fails = (why: string) =>
		new UsageError("ERR_RUN_NETWORKS", `Cannot be on networks ${texts.join(" and ")}: ${why}`, {
			hint: "Leave one of them out",
		});
	if (texts.length > 1 && attachments.length < texts.length) throw fails("none is no network");
	const names = attachments.map(({ device }) => ("name" in device ? `${device.kind} ${device.name}` : device.kind));
	const twice = names.find((name, i) => names.indexOf(name) !== i);
	if (twice !== undefined) throw fails(`${twice} is there twice`);
}

/** A container has a network, as in Docker. Without passt it has none, unless ports are published. */
function defaultNetwork({ publish, publishAll }: NetworkFlags, note: (line: string) => void): string {
	if (publish.length > 0 || publishAll || findTool("passt") !== undefined) return "user";
	if (!needsLab()) note("the container has no network: passt is not installed");
	return "none";
}

/** @throws UsageError ERR_RUN_ADDRESS for an address that is not of the network */
export function memberAddress(name: string, address: string): string {
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
