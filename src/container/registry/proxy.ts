/*
 * Which proxy a request goes through: HTTPS_PROXY, HTTP_PROXY and NO_PROXY (or in small letters) as curl, Go and with
 * them Docker read them.
 */
import { BlockList, isIP } from "node:net";
import { isLoopback } from "./location.ts";

/** The proxy for a request, or undefined when it goes straight to its host. */
export function proxyFor(url: URL, env: NodeJS.ProcessEnv = process.env): string | undefined {
	const variable = url.protocol === "https:" ? "https_proxy" : "http_proxy";
	const proxy = env[variable] || env[variable.toUpperCase()];
	if (!proxy || isLoopback(url.hostname) || isExcepted(url, env.no_proxy || env.NO_PROXY || "")) return undefined;
	return proxy.includes("://") ? proxy : `http://${proxy}`;
}

/** Entries of NO_PROXY: "*", a domain with all below it (".example", "*.example"), an address, a network, each with a port. */
function isExcepted(url: URL, list: string): boolean {
	const host = url.hostname.replace(/^\[|\]$/g, "").toLowerCase();
	const port = url.port || (url.protocol === "https:" ? "443" : "80");
	return list
		.split(/[\s,]+/)
		.filter((entry) => entry !== "")
		.some((entry) => {
			if (entry === "*") return true;
			const [, name = entry, wantedPort] = /^(\[[^\]]+\]|[^:]+):(\d+)$/.exec(entry) ?? [];
			if (wantedPort !== undefined && wantedPort !== port) return false;
			const plain = name.replace(/^\[|\]$/g, "").toLowerCase();
			if (plain.includes("/")) return isInNetwork(host, plain);
			const domain = plain.replace(/^\*?\./, "");
			return host === domain || host.endsWith(`.${domain}`);
		});
}

function isInNetwork(host: string, network: string): boolean {
	const [address = "", bits] = network.split("/");
	const family = isIP(address) === 6 ? "ipv6" : "ipv4";
	if (isIP(address) === 0 || isIP(host) !== isIP(address)) return false;
	const list = new BlockList();
	try {
		list.addSubnet(address, Number(bits), family);
	} catch {
		return false;
	}
	return list.check(host, family);
}
