/*
 * Ports that are published without a number of this host, and the numbers that they get.
 */
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { afterEach, expect, test } from "vitest";
import { hostPortsFor, parseExpose, parsePublish, withHostPorts } from "../../src/cli/container/publish.ts";
import { ContainerStore } from "../../src/container/life/store.ts";
import { containerConfig } from "../container/life/container-config.ts";

const store = new ContainerStore();
const tcp = (hostPort: number, guestPort: number) => ({ hostPort, guestPort, protocol: "tcp" as const });

afterEach(async () => {
	for (const container of store.list()) await container.erase();
});

test("parsePublish takes Docker's forms, with and without a port of the host", () => {
	expect(parsePublish("8080:80")).toEqual([tcp(8080, 80)]);
	expect(parsePublish("80")).toEqual([tcp(0, 80)]);
	expect(parsePublish(":80")).toEqual([tcp(0, 80)]);
	expect(parsePublish("127.0.0.1::53/udp")).toEqual([
		{ hostAddress: "127.0.0.1", hostPort: 0, guestPort: 53, protocol: "udp" },
	]);
	expect(parsePublish("80-81")).toEqual([tcp(0, 80), tcp(0, 81)]);
	for (const text of ["", "0", "65536", "80/sctp", "127.0.0.1:80", "::80", "81-80", "eighty"]) {
		expect(() => parsePublish(text), text).toThrow(expect.objectContaining({ code: "ERR_OPTION_PORT" }));
	}
});

test("parseExpose takes a port or a range, and a protocol", () => {
	expect(parseExpose("80")).toEqual(["80/tcp"]);
	expect(parseExpose("53-54/udp")).toEqual(["53/udp", "54/udp"]);
	for (const text of ["", "0", "8080:80", "80/x", "x"]) {
		expect(() => parseExpose(text), text).toThrow(expect.objectContaining({ code: "ERR_OPTION_PORT" }));
	}
});

test("hostPortsFor publishes what is exposed and not named, on ports that are free and no other container's", async () => {
	const flags = { publish: [tcp(8080, 80), tcp(0, 81)], publishAll: true };
	const { publish, chosen } = await hostPortsFor(flags, ["80/tcp", "82/tcp", "53/udp"]);
	expect(publish.map(({ guestPort, protocol }) => `${guestPort}/${protocol}`)).toEqual([
		...["80/tcp", "81/tcp", "82/tcp", "53/udp"],
	]);
	expect(publish[0]).toEqual(tcp(8080, 80));
	expect(publish.slice(1).map(({ hostPort }) => hostPort)).toEqual(chosen);
	expect(new Set(chosen).size).toBe(3);
	for (const port of chosen.slice(0, 2)) {
		const server = createServer().listen(port);
		await once(server, "listening");
		expect((server.address() as AddressInfo).port).toBe(port);
		server.close();
	}
	expect(await hostPortsFor({ publish: [], publishAll: false }, ["80/tcp"])).toEqual({ publish: [], chosen: [] });
});

test("hostPortsFor takes the numbers that another tsvmm has chosen, which withHostPorts hands over", async () => {
	const flags = { publish: [tcp(0, 80), tcp(8080, 90), tcp(0, 81)], publishAll: false };
	const network = { attachments: [{ device: { kind: "user" as const } }], ports: [tcp(40_000, 80)] };
	await store.create(containerConfig({}, { network }), "other");
	const { publish } = await hostPortsFor({ ...flags, hostPorts: "40000,40001" }, []);
	expect(publish).toEqual([tcp(40_000, 80), tcp(8080, 90), tcp(40_001, 81)]);
	expect(withHostPorts(["container", "run", "-P", "image", "run"], [1, 2])).toEqual([
		...["container", "run", "--host-ports", "1,2", "-P", "image", "run"],
	]);
	expect(withHostPorts(["run", "image"], [])).toEqual(["run", "image"]);
});

test("hostPortsFor says so when this machine has not the address", async () => {
	const publish = [{ ...tcp(0, 80), hostAddress: "192.0.2.1" }];
	await expect(hostPortsFor({ publish, publishAll: false }, [])).rejects.toMatchObject({ code: "ERR_PORT" });
});
