/*
 * A network as containers see it: its supervisor in this process, members that are sockets.
 */
import { existsSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FrameStream } from "../../../src/backends/frame-stream.ts";
import { addressBytes, datagramFrame, readDatagram } from "../../../src/backends/switch/packets.ts";
import { askNetwork } from "../../../src/container/network/control.ts";
import { type Network, NetworkSockets, NetworkStore } from "../../../src/container/network/store.ts";
import { superviseNetwork } from "../../../src/container/network/supervisor.ts";

let store: NetworkStore;
const streams: FrameStream[] = [];

beforeEach(() => {
	store = new NetworkStore();
});
afterEach(async () => {
	for (const stream of streams.splice(0)) stream.close();
	for (const { name } of store.list()) await store.remove(name, () => []);
});

/** Runs a network; resolves when it can be joined. */
async function running(name: string, options: Parameters<NetworkStore["create"]>[1] = {}) {
	const network = await store.create(name, options);
	let ended!: Promise<void>;
	await new Promise<void>((resolve, reject) => {
		ended = superviseNetwork(store, network, resolve);
		ended.catch(reject);
	});
	return { network, ended, sockets: new NetworkSockets(network) };
}

const ID = (digit: string) => digit.repeat(64);

async function join_(network: Network, id: string, names: string[], address?: string) {
	const applicant = { id, names, address };
	return (await askNetwork(new NetworkSockets(network), { do: "join", applicant }))!.membership!;
}

/** A member's machine. */
async function plugIn(network: Network, id: string) {
	const socket = await new Promise<Socket>((resolve, reject) => {
		const made = connect(new NetworkSockets(network).portOf(id), () => resolve(made));
		made.once("error", reject);
	});
	const stream = new FrameStream(socket, { name: "member" });
	streams.push(stream);
	stream.start({ readable: () => undefined, writable: () => undefined, lost: () => undefined });
	return stream;
}

const frame = (
	from: { mac: string; address: string },
	to: { mac: string; address: string },
	payload: Buffer,
	port = 9,
) => datagramFrame({ from: { ...bytes(from), port: 9 }, to: { ...bytes(to), port }, payload });

const bytes = ({ mac, address }: { mac: string; address: string }) => ({
	mac: Buffer.from(mac.replaceAll(":", ""), "hex"),
	address: addressBytes(address),
});

async function received(stream: FrameStream) {
	let found: Buffer | undefined;
	await expect
		.poll(() => {
			found ??= stream.take();
			return found;
		})
		.toBeDefined();
	return readDatagram(found!);
}

test("NetworkStore makes, finds and removes networks, and refuses bad ones", async () => {
	const network = await store.create("one", { subnet: "10.77.0.0/24", labels: { a: "b" } });
	expect(network).toMatchObject({ gateway: "10.77.0.1", internal: false, labels: { a: "b" } });
	expect(store.find(network.id.slice(0, 12))).toEqual(network);
	await expect(store.create("one")).rejects.toMatchObject({ code: "ERR_NETWORK_IN_USE" });
	await expect(store.create("two", { subnet: "10.77.0.128/25" })).rejects.toMatchObject({
		code: "ERR_NETWORK_SUBNET_TAKEN",
	});
	await expect(store.create("two", { gateway: "10.1.1.1" })).rejects.toMatchObject({ code: "ERR_NETWORK_SUBNET" });
	for (const name of ["host", "none", "user", "a/b", "", "-x"]) {
		await expect(store.create(name)).rejects.toMatchObject({ code: "ERR_NETWORK_NAME" });
	}
	await expect(store.remove("one", () => ["web"])).rejects.toMatchObject({ code: "ERR_NETWORK_BUSY" });
	await store.remove("one", () => []);
	expect(() => store.find("one")).toThrow(expect.objectContaining({ code: "ERR_NETWORK_NOT_FOUND" }));
});

test("a damaged network is told of", async () => {
	await store.create("hurt");
	writeFileSync(join(store.pathOf(store.find("hurt")), "network.json"), "{");
	expect(() => store.find("hurt")).toThrow(expect.objectContaining({ code: "ERR_NETWORK_STATE" }));
	writeFileSync(join(store.pathOf({ name: "hurt" } as Network), "network.json"), "{}");
	expect(() => store.list()).toThrow(expect.objectContaining({ code: "ERR_NETWORK_STATE" }));
	const record = {
		name: "hurt",
		id: ID("0"),
		created: "",
		subnet: "10.9.0.0/24",
		gateway: "10.9.0.1",
		internal: false,
	};
	writeFileSync(
		join(store.pathOf({ name: "hurt" } as Network), "network.json"),
		JSON.stringify({ ...record, labels: {} }),
	);
});

test("members get addresses, reach each other, and find each other's names", async () => {
	const { network, ended } = await running("net", { subnet: "10.77.1.0/24" });
	const web = await join_(network, ID("a"), ["web", "www"]);
	const client = await join_(network, ID("b"), ["client"]);
	expect([web.address, client.address]).toEqual(["10.77.1.2", "10.77.1.3"]);
	const atWeb = await plugIn(network, ID("a"));
	const atClient = await plugIn(network, ID("b"));
	atClient.sendBytes(frame(client, web, Buffer.from("hello")));
	expect((await received(atWeb))?.payload.toString()).toBe("hello");
	const server = { mac: "52:54:0a:4d:01:fe", address: "10.77.1.254" };
	const query = Buffer.from("000001000001000000000000037777770000010001", "hex");
	atClient.sendBytes(frame(client, server, query, 53));
	expect((await received(atClient))?.payload.subarray(-4)).toEqual(addressBytes("10.77.1.2"));
	for (const stream of streams.splice(0)) stream.close();
	await ended;
	expect(existsSync(new NetworkSockets(network).directory)).toBe(false);
});

test("a member that goes gives its address and names back; one that comes again takes its own place", async () => {
	const { network, ended, sockets } = await running("net", { subnet: "10.77.2.0/29" });
	await join_(network, ID("a"), ["web"]);
	await join_(network, ID("b"), ["db"]);
	const kept = await plugIn(network, ID("b"));
	const lost = await plugIn(network, ID("a"));
	lost.close();
	await expect.poll(async () => (await askNetwork(sockets, { do: "list" }))?.members?.length).toBe(1);
	expect((await join_(network, ID("c"), ["web"])).address).toBe("10.77.2.2");
	expect((await join_(network, ID("c"), ["web"])).address).toBe("10.77.2.2");
	const members = (await askNetwork(sockets, { do: "list" }))!.members!;
	expect(members.map(({ names, address }) => [names[0], address])).toEqual([
		["db", "10.77.2.3"],
		["web", "10.77.2.2"],
	]);
	(await plugIn(network, ID("c"))).close();
	kept.close();
	await ended;
});

test("an address that is taken, foreign or the network's own is refused, and so is one too many", async () => {
	const { network, ended } = await running("net", { subnet: "10.77.3.0/29" });
	await join_(network, ID("a"), ["a"], "10.77.3.4");
	for (const address of ["10.77.3.4", "10.77.3.1", "10.77.3.6", "10.77.4.2"]) {
		await expect(join_(network, ID("b"), ["b"], address)).rejects.toMatchObject({ code: "ERR_NETWORK_ADDRESS" });
	}
	for (const digit of ["c", "d", "e"]) await join_(network, ID(digit), [digit]);
	await expect(join_(network, ID("f"), ["f"])).rejects.toMatchObject({ code: "ERR_NETWORK_FULL" });
	for (const digit of ["a", "c", "d", "e"]) (await plugIn(network, ID(digit))).close();
	await ended;
});

test("a member cannot take another's Ethernet address, and a second connection is refused", async () => {
	const { network, ended } = await running("net", { subnet: "10.77.5.0/24" });
	const one = await join_(network, ID("a"), ["a"]);
	const two = await join_(network, ID("b"), ["b"]);
	const atOne = await plugIn(network, ID("a"));
	const atTwo = await plugIn(network, ID("b"));
	await expect(plugIn(network, ID("a"))).rejects.toThrow();
	atTwo.sendBytes(
		frame({ ...two, mac: one.mac }, { mac: "ff:ff:ff:ff:ff:ff", address: one.address }, Buffer.from("forged")),
	);
	atTwo.sendBytes(frame(two, one, Buffer.from("true")));
	expect((await received(atOne))?.payload.toString()).toBe("true");
	for (const stream of streams.splice(0)) stream.close();
	await ended;
});

test("only one process is a network", async () => {
	const { network, ended } = await running("net");
	await expect(superviseNetwork(store, network, () => undefined)).rejects.toMatchObject({
		code: "ERR_NETWORK_RUNNING",
	});
	await ended;
});

test("members that join at the same time get different addresses", async () => {
	const { network, ended } = await running("net", { subnet: "10.77.6.0/24" });
	const digits = ["a", "b", "c", "d"];
	const all = await Promise.all(digits.map((digit) => join_(network, ID(digit), [digit])));
	expect(all.map(({ address }) => address).sort()).toEqual(["10.77.6.2", "10.77.6.3", "10.77.6.4", "10.77.6.5"]);
	for (const digit of digits) (await plugIn(network, ID(digit))).close();
	await ended;
});

test("a member finds the names of all its networks at any of their name servers, and of no others", async () => {
	const one = await running("one", { subnet: "10.77.7.0/24" });
	const two = await running("two", { subnet: "10.77.8.0/24", internal: true });
	const both = await join_(one.network, ID("a"), ["both"]);
	await join_(two.network, ID("a"), ["both"]);
	const other = await join_(one.network, ID("b"), ["other"]);
	await join_(two.network, ID("c"), ["www"]);
	const asked = async (id: string, from: { mac: string; address: string }) => {
		const stream = await plugIn(one.network, id);
		const server = { mac: "52:54:0a:4d:07:fe", address: "10.77.7.254" };
		const query = Buffer.from("000001000001000000000000037777770000010001", "hex");
		stream.sendBytes(frame(from, server, query, 53));
		return (await received(stream))?.payload.subarray(-4);
	};
	expect(await asked(ID("a"), both)).toEqual(addressBytes("10.77.8.3"));
	expect(await asked(ID("b"), other)).not.toEqual(addressBytes("10.77.8.3"));
	for (const id of [ID("a"), ID("c")]) (await plugIn(two.network, id)).close();
	for (const stream of streams.splice(0)) stream.close();
	await Promise.all([one.ended, two.ended]);
});
