/*
 * What `--network`, given once or several times, and the flags beside it mean.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type NetworkFlags, readNetwork } from "../../src/cli/container/network-flags.ts";
import { NetworkStore } from "../../src/container/network/store.ts";

const store = new NetworkStore();

beforeAll(async () => {
	await store.create("blue", { subnet: "10.79.1.0/24" });
	await store.create("green", { subnet: "10.79.2.0/24" });
});
afterAll(async () => {
	for (const name of ["blue", "green"]) await store.remove(name, () => []);
});

const none = { dns: [], dnsOption: [], dnsSearch: [], networkAlias: [], publish: [], publishAll: false };
const read = (network: string[], flags: Partial<NetworkFlags> = {}) =>
	readNetwork({ ...none, network, ...flags }, () => undefined);

test("readNetwork takes several networks in their order; the flags beside are about the first", () => {
	const flags = { ip: "10.79.1.9", networkAlias: ["www"], dns: ["10.0.0.1"], dnsSearch: ["example"] };
	expect(read(["blue", "name=green,ip=10.79.2.7,alias=a,alias=b", "tap=t,mac=52:54:00:12:34:56"], flags)).toEqual({
		attachments: [
			{ device: { kind: "network", name: "blue", aliases: ["www"] }, address: "10.79.1.9" },
			{ device: { kind: "network", name: "green", aliases: ["a", "b"] }, address: "10.79.2.7" },
			{ device: { kind: "tap", name: "t", mac: "52:54:00:12:34:56" } },
		],
		ports: [],
		dns: ["10.0.0.1"],
		dnsSearch: ["example"],
	});
});

test("readNetwork keeps ports apart from networks, of any flag", () => {
	const publish = [{ hostPort: 53, guestPort: 53, protocol: "udp" as const }];
	expect(read(["user,port=8080:80", "blue"], { publish })).toEqual({
		attachments: [{ device: { kind: "user" } }, { device: { kind: "network", name: "blue", aliases: [] } }],
		ports: [{ hostPort: 8080, guestPort: 80, protocol: "tcp" }, ...publish],
	});
	expect(read(["none"])).toBeUndefined();
	expect(read(["bridge"])?.attachments).toEqual([{ device: { kind: "user" } }]);
});

test("readNetwork gives taps and bridges the addresses that flags or fields say", () => {
	expect(read(["bridge=br0"], { ip: "10.0.0.5", gateway: "10.0.0.1" })?.attachments).toEqual([
		{ device: { kind: "bridge", name: "br0" }, address: "10.0.0.5/24", gateway: "10.0.0.1" },
	]);
	expect(read(["blue", "tap=t,ip=10.0.0.5/16,gateway=10.0.0.1"])?.attachments[1]).toEqual({
		...{ device: { kind: "tap", name: "t" }, address: "10.0.0.5/16", gateway: "10.0.0.1" },
	});
});

test.each<[networks: string[], flags: Partial<NetworkFlags>, code: string]>([
	[["blue", "none"], {}, "ERR_RUN_NETWORKS"],
	[["blue", "name=blue,ip=10.79.1.9"], {}, "ERR_RUN_NETWORKS"],
	[["user", "default"], {}, "ERR_RUN_NETWORKS"],
	[["red"], {}, "ERR_NETWORK_NOT_FOUND"],
	[["host"], {}, "ERR_OPTION_NET"],
	[["blue,port=1:1"], {}, "ERR_OPTION_NET"],
	[["blue", "green,ip=10.79.1.9"], {}, "ERR_RUN_ADDRESS"],
	[["user,ip=10.0.0.1"], {}, "ERR_RUN_ADDRESS"],
	[["tap=t", "bridge=b,gateway=nowhere"], {}, "ERR_RUN_ADDRESS"],
	[["user"], { networkAlias: ["www"] }, "ERR_RUN_ALIAS"],
	[["tap=t,alias=www"], {}, "ERR_RUN_ALIAS"],
	[["tap=t"], { publishAll: true }, "ERR_RUN_PUBLISH"],
])("readNetwork refuses %j with %j", (networks, flags, code) => {
	expect(() => read(networks, flags)).toThrow(expect.objectContaining({ code }));
});
