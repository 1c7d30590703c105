import { createSocket } from "node:dgram";
import { expect, onTestFinished, test } from "vitest";
import { RCODE_SERVFAIL } from "../../../src/backends/switch/dns-message.ts";
import { EthernetSwitch, type SwitchPort } from "../../../src/backends/switch/ethernet-switch.ts";
import { HostResolver } from "../../../src/backends/switch/host-resolver.ts";
import { nameServer } from "../../../src/backends/switch/name-server.ts";
import {
	addressBytes,
	arpReply,
	type Datagram,
	datagramFrame,
	readArpRequest,
	readDatagram,
} from "../../../src/backends/switch/packets.ts";
import { SwitchHost } from "../../../src/backends/switch/switch-host.ts";

const server = { mac: Buffer.from("0200000000fe", "hex"), address: addressBytes("10.0.0.254") };
const client = { mac: Buffer.from("020000000001", "hex"), address: addressBytes("10.0.0.1") };

class Client implements SwitchPort {
	readonly got: Buffer[] = [];
	send(frame: Buffer): void {
		this.got.push(Buffer.from(frame));
	}
}

/** A name server that knows "web", and a client of it. */
function connected(forward: (query: Buffer) => Promise<Buffer | undefined> = async () => undefined) {
	const network = new EthernetSwitch();
	const port = new Client();
	network.add(port);
	const lookUp = (name: string) => (name === "web" ? ["10.0.0.7", "10.0.0.8"] : undefined);
	new SwitchHost(network, server).serve(53, nameServer({ lookUp, forward }));
	const ask = async (payload: Buffer, to: Partial<Datagram["to"]> = {}) => {
		const frame = datagramFrame({ from: { ...client, port: 5000 }, to: { ...server, port: 53, ...to }, payload });
		network.receive(frame, port);
		await new Promise((resolve) => setImmediate(resolve));
		return port.got.splice(0).map((got) => readDatagram(got)?.payload);
	};
	return { network, port, ask };
}

function query(name: string, type = 1, id = 0x1234): Buffer {
	const head = Buffer.from("000001000001000000000000", "hex");
	head.writeUInt16BE(id, 0);
	const labels = name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
	return Buffer.concat([head, ...labels, Buffer.from([0, 0, type, 0, 1])]);
}

test("SwitchHost answers ARP for its own address only", () => {
	const { network, port } = connected();
	const question = (wanted: string) =>
		Buffer.from(
			`ffffffffffff${client.mac.toString("hex")}08060001080006040001${client.mac.toString("hex")}${client.address.toString("hex")}000000000000${addressBytes(wanted).toString("hex")}`,
			"hex",
		);
	network.receive(question("10.0.0.9"), port);
	expect(port.got).toEqual([]);
	network.receive(question("10.0.0.254"), port);
	expect(port.got).toEqual([arpReply(server, client)]);
	expect(readArpRequest(port.got[0]!)).toBeUndefined();
});

test("nameServer has all addresses of a member's name, in any case of letters", async () => {
	const { ask } = connected();
	const [answer] = await ask(query("WEB"));
	expect(answer?.readUInt16BE(0)).toBe(0x1234);
	expect(answer?.readUInt16BE(2)).toBe(0x8580);
	expect(answer?.readUInt16BE(6)).toBe(2);
	expect(answer?.subarray(-4)).toEqual(addressBytes("10.0.0.8"));
	expect(answer?.subarray(-20, -16)).toEqual(addressBytes("10.0.0.7"));
});

test("nameServer says that a member has no IPv6 address, instead of asking elsewhere", async () => {
	const { ask } = connected(async () => Buffer.from("not this"));
	const [answer] = await ask(query("web", 28));
	expect([answer?.readUInt16BE(2), answer?.readUInt16BE(6)]).toEqual([0x8580, 0]);
});

test("nameServer passes other names on, and says so when nobody answers", async () => {
	const asked: Buffer[] = [];
	const { ask } = connected(async (bytes) => {
		asked.push(bytes);
		return asked.length === 1 ? Buffer.from("an answer of the host") : undefined;
	});
	expect(await ask(query("example.org"))).toEqual([Buffer.from("an answer of the host")]);
	const [failed] = await ask(query("example.org"));
	expect(failed!.readUInt16BE(2) & 0xf).toBe(RCODE_SERVFAIL);
	expect(asked).toEqual([query("example.org"), query("example.org")]);
});

test("nameServer is silent about what is no query for it", async () => {
	const { network, port, ask } = connected();
	const answer = query("web");
	answer[2]! |= 0x80;
	const twoQuestions = query("web");
	twoQuestions[5] = 2;
	const pointer = Buffer.concat([query("web").subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]);
	const cut = query("web").subarray(0, 15);
	for (const payload of [Buffer.alloc(0), Buffer.alloc(11), answer, twoQuestions, pointer, cut]) {
		expect(await ask(payload)).toEqual([]);
	}
	expect(await ask(query("web"), { port: 54 })).toEqual([]);
	expect(await ask(query("web"), { address: addressBytes("10.0.0.7") })).toEqual([]);
	const whole = datagramFrame({ from: { ...client, port: 1 }, to: { ...server, port: 53 }, payload: query("web") });
	for (const [at, value] of [
		[14, 0x44],
		[14, 0x65],
		[16, 0xff],
		[21, 1],
		[23, 6],
		[38, 0xff],
		[39, 7],
	] as const) {
		const broken = Buffer.from(whole);
		broken[at] = value;
		network.receive(broken, port);
	}
	for (let length = 14; length < whole.length; length++) network.receive(whole.subarray(0, length), port);
	await new Promise((resolve) => setImmediate(resolve));
	expect(port.got).toEqual([]);
});

test("HostResolver asks under another ID, and takes no answer with the wrong one", async () => {
	const host = createSocket("udp4");
	onTestFinished(() => void host.close());
	await new Promise<void>((resolve) => host.bind(0, "127.0.0.1", resolve));
	const ids: number[] = [];
	host.on("message", (message, { port, address }) => {
		ids.push(message.readUInt16BE(0));
		const wrong = Buffer.from(message);
		wrong.writeUInt16BE(message.readUInt16BE(0) ^ 1, 0);
		host.send(wrong, port, address);
		host.send(Buffer.concat([message, Buffer.from("!")]), port, address);
	});
	const resolver = new HostResolver(() => ({ address: "127.0.0.1", port: host.address().port }));
	const answers = await Promise.all([1, 2, 3, 4].map((id) => resolver.ask(query("example.org", 1, id))));
	expect(answers).toEqual([1, 2, 3, 4].map((id) => Buffer.concat([query("example.org", 1, id), Buffer.from("!")])));
	expect(ids).not.toEqual([1, 2, 3, 4]);
	expect(await new HostResolver(() => undefined).ask(query("example.org"))).toBeUndefined();
});
