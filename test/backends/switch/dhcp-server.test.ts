import { expect, test } from "vitest";
import { MessageType, Option, readDhcpRequest } from "../../../src/backends/switch/dhcp-message.ts";
import { dhcpServer } from "../../../src/backends/switch/dhcp-server.ts";
import { EthernetSwitch, type SwitchPort } from "../../../src/backends/switch/ethernet-switch.ts";
import { nameServer } from "../../../src/backends/switch/name-server.ts";
import { addressBytes, datagramFrame, readDatagram } from "../../../src/backends/switch/packets.ts";
import { SwitchHost } from "../../../src/backends/switch/switch-host.ts";

const MAC = Buffer.from("52540a590002", "hex");
const ALL = addressBytes("255.255.255.255");

/** A server that knows one member, and that member. */
function connected() {
	const network = new EthernetSwitch();
	const got: Buffer[] = [];
	const port: SwitchPort = { send: (frame) => void got.push(Buffer.from(frame)) };
	network.add(port, MAC);
	const service = dhcpServer({
		server: "10.89.0.254",
		mask: "255.255.255.0",
		router: "10.89.0.1",
		nameServer: "10.89.0.254",
		mtu: 1500,
		addressOf: (mac) => (mac.equals(MAC) ? "10.89.0.2" : undefined),
	});
	const own = { mac: Buffer.from("52540a5900fe", "hex"), address: addressBytes("10.89.0.254") };
	new SwitchHost(network, own)
		.serve(67, service)
		.serve(53, nameServer({ lookUp: () => undefined, forward: async () => undefined }));
	const send = (payload: Buffer, mac = MAC) => {
		const from = { mac, address: addressBytes("0.0.0.0"), port: 68 };
		network.receive(datagramFrame({ from, to: { mac: Buffer.alloc(6, 0xff), address: ALL, port: 67 }, payload }), port);
		return got.splice(0).map((frame) => readDatagram(frame)!);
	};
	return { network, port, send };
}

function request(type: number, options: readonly (readonly [number, Buffer])[] = [], mac = MAC, flags = 0): Buffer {
	const head = Buffer.alloc(240);
	head.set([1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef]);
	head.writeUInt16BE(flags, 10);
	mac.copy(head, 28);
	head.set([99, 130, 83, 99], 236);
	const all = [[Option.messageType, Buffer.from([type])] as const, ...options];
	return Buffer.concat([
		head,
		...all.map(([option, value]) => Buffer.concat([Buffer.from([option, value.length]), value])),
		Buffer.from([Option.end]),
	]);
}

/** The options of a reply; the reader takes requests, so the first byte is made one. */
function read(payload: Buffer) {
	const asRequest = Buffer.from(payload);
	expect(asRequest[0]).toBe(2);
	asRequest[0] = 1;
	const { type, options } = readDhcpRequest(asRequest)!;
	return { type, options, yours: payload.subarray(16, 20), id: payload.toString("hex", 4, 8) };
}

test("dhcpServer offers a member its address, and all else that it needs", () => {
	const { send } = connected();
	const [offer] = send(request(MessageType.discover));
	expect(offer!.to).toEqual({ mac: MAC, address: ALL, port: 68 });
	expect(offer!.payload.length).toBeGreaterThanOrEqual(300);
	const { type, options, yours, id } = read(offer!.payload);
	expect([type, id, yours]).toEqual([MessageType.offer, "deadbeef", addressBytes("10.89.0.2")]);
	expect(options.get(Option.mask)).toEqual(addressBytes("255.255.255.0"));
	expect(options.get(Option.router)).toEqual(addressBytes("10.89.0.1"));
	expect(options.get(Option.nameServer)).toEqual(addressBytes("10.89.0.254"));
	expect(options.get(Option.server)).toEqual(addressBytes("10.89.0.254"));
	expect(options.get(Option.leaseTime)?.readUInt32BE()).toBe(3600);
	expect(options.get(Option.mtu)?.readUInt16BE()).toBe(1500);
});

test("dhcpServer acknowledges the member's own address and refuses any other", () => {
	const { send } = connected();
	const ask = (address: string) => {
		const [answer] = send(request(MessageType.request, [[Option.requestedAddress, addressBytes(address)]]));
		return read(answer!.payload);
	};
	expect(ask("10.89.0.2")).toMatchObject({ type: MessageType.ack, yours: addressBytes("10.89.0.2") });
	expect(ask("10.89.0.3")).toMatchObject({ type: MessageType.nak, yours: addressBytes("0.0.0.0") });
});

test("dhcpServer broadcasts to a client that takes nothing else", () => {
	const [offer] = connected().send(request(MessageType.discover, [], MAC, 0x8000));
	expect(offer!.to.mac).toEqual(Buffer.alloc(6, 0xff));
});

test("dhcpServer tells a client with an address the rest", () => {
	const message = request(MessageType.inform);
	addressBytes("10.89.0.2").copy(message, 12);
	const [answer] = connected().send(message);
	expect(answer!.to.address).toEqual(addressBytes("10.89.0.2"));
	expect(read(answer!.payload)).toMatchObject({ type: MessageType.ack, yours: addressBytes("0.0.0.0") });
});

test("dhcpServer is silent to who is no member, asks for another, or has chosen another server", () => {
	const { send } = connected();
	const stranger = Buffer.from("020000000009", "hex");
	expect(send(request(MessageType.discover, [], stranger), stranger)).toEqual([]);
	expect(send(request(MessageType.discover, [], stranger))).toEqual([]);
	expect(send(request(MessageType.request, [[Option.server, addressBytes("10.89.0.9")]]))).toEqual([]);
	for (const type of [MessageType.release, MessageType.decline, MessageType.offer, 77]) {
		expect(send(request(type))).toEqual([]);
	}
});

test("readDhcpRequest refuses what is cut off or no request", () => {
	const whole = request(MessageType.discover);
	for (const [at, value] of [
		[0, 2],
		[1, 6],
		[2, 16],
		[236, 0],
		[241, 200],
	] as const) {
		const broken = Buffer.from(whole);
		broken[at] = value;
		expect(readDhcpRequest(broken), `byte ${at}`).toBeUndefined();
	}
	for (let length = 0; length < whole.length - 1; length++) {
		const found = readDhcpRequest(whole.subarray(0, length));
		expect(found === undefined || found.type === MessageType.discover).toBe(true);
	}
});

test("a switch and its services survive whatever a member sends", () => {
	const { network, port } = connected();
	let seed = 1;
	const random = (below: number) => {
		seed = (seed * 1103515245 + 12345) & 0x7fffffff;
		return seed % below;
	};
	const from = { mac: MAC, address: addressBytes("10.89.0.2"), port: 68 };
	const to = (address: Buffer, port: number) => ({ mac: Buffer.alloc(6, 0xff), address, port });
	const seeds = [
		datagramFrame({ from, to: to(ALL, 67), payload: request(MessageType.discover) }),
		datagramFrame({
			from,
			to: to(addressBytes("10.89.0.254"), 53),
			payload: Buffer.from("000001000001000000000000037765620000010001", "hex"),
		}),
		Buffer.from(
			`ffffffffffff${MAC.toString("hex")}08060001080006040001${MAC.toString("hex")}0a590002000000000000${"0a5900fe"}`,
			"hex",
		),
		Buffer.alloc(60, 0xff),
	];
	for (let i = 0; i < 50_000; i++) {
		const frame = Buffer.from(seeds[random(seeds.length)]!);
		for (let n = random(8); n > 0; n--) frame[random(frame.length)] = random(256);
		network.receive(frame.subarray(0, random(4) === 0 ? random(frame.length + 1) : frame.length), port);
	}
});
