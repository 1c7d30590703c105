import { describe, expect, test } from "vitest";
import { EthernetSwitch, type SwitchPort } from "../../../src/backends/switch/ethernet-switch.ts";
import { MacTable } from "../../../src/backends/switch/mac-table.ts";

const ALL = "ffffffffffff";
const A = "020000000001";
const B = "020000000002";
const C = "020000000003";

class RecordedPort implements SwitchPort {
	readonly got: string[] = [];

	send(frame: Buffer): void {
		this.got.push(frame.toString("hex", 14));
	}
}

function frame(to: string, from: string, text: string): Buffer {
	return Buffer.from(`${to}${from}88b5${text}`, "hex");
}

function threePorts(table = new MacTable()) {
	const network = new EthernetSwitch(table);
	const ports = [new RecordedPort(), new RecordedPort(), new RecordedPort()] as const;
	for (const port of ports) network.add(port);
	return { network, ports };
}

describe("EthernetSwitch", () => {
	test("receive gives a broadcast to all other ports, and a known address to its port alone", () => {
		const { network, ports } = threePorts();
		network.receive(frame(ALL, A, "01"), ports[0]);
		network.receive(frame(A, B, "02"), ports[1]);
		network.receive(frame(B, A, "03"), ports[0]);
		expect(ports.map(({ got }) => got)).toEqual([["02"], ["01", "03"], ["01"]]);
	});

	test("receive gives a frame for an unknown address to all other ports", () => {
		const { network, ports } = threePorts();
		network.receive(frame(C, A, "01"), ports[0]);
		expect(ports.map(({ got }) => got)).toEqual([[], ["01"], ["01"]]);
	});

	test("receive follows a station that moves to another port", () => {
		const { network, ports } = threePorts();
		network.receive(frame(ALL, A, "01"), ports[0]);
		network.receive(frame(ALL, A, "02"), ports[1]);
		network.receive(frame(A, B, "03"), ports[2]);
		expect(ports[0].got).toEqual(["02"]);
		expect(ports[1].got).toEqual(["01", "03"]);
	});

	test("receive sends nothing back to where it came from", () => {
		const { network, ports } = threePorts();
		network.receive(frame(ALL, A, "01"), ports[0]);
		network.receive(frame(A, B, "02"), ports[0]);
		expect(ports.map(({ got }) => got)).toEqual([[], ["01"], ["01"]]);
	});

	test("receive drops what no station can have sent", () => {
		const { network, ports } = threePorts();
		const hostile = [
			Buffer.alloc(0),
			Buffer.alloc(13),
			frame(ALL, "010000000001", "01"),
			frame(ALL, ALL, "01"),
			frame(ALL, "000000000000", "01"),
			Buffer.concat([frame(ALL, A, ""), Buffer.alloc(65_525)]),
		];
		for (const bytes of hostile) network.receive(bytes, ports[0]);
		network.receive(frame(ALL, A, "01"), new RecordedPort());
		expect(ports.flatMap(({ got }) => got)).toEqual([]);
	});

	test("receive drops a frame from an address that was given to another port", () => {
		const network = new EthernetSwitch();
		const [owner, thief, other] = [new RecordedPort(), new RecordedPort(), new RecordedPort()];
		network.add(owner, Buffer.from(A, "hex"));
		network.add(thief);
		network.add(other);
		network.receive(frame(ALL, A, "01"), thief);
		network.receive(frame(A, C, "02"), other);
		expect([owner.got, thief.got, other.got]).toEqual([["02"], [], []]);
	});

	test("remove forgets the port's addresses", () => {
		const { network, ports } = threePorts();
		network.receive(frame(ALL, A, "01"), ports[0]);
		network.remove(ports[0]);
		network.receive(frame(A, B, "02"), ports[1]);
		expect(ports.map(({ got }) => got)).toEqual([[], ["01"], ["01", "02"]]);
	});
});

describe("MacTable", () => {
	test("find forgets an address that has sent nothing for five minutes", () => {
		let now = 0;
		const table = new MacTable(() => now);
		const port = new RecordedPort();
		table.learn(1, port);
		now = 299_999;
		expect(table.find(1)).toBe(port);
		table.learn(1, port);
		now = 599_998;
		expect(table.find(1)).toBe(port);
		now = 600_000;
		expect(table.find(1)).toBeUndefined();
		expect(table.size).toBe(0);
	});

	test("learn keeps 64 addresses of a port, the latest, and leaves those of others", () => {
		const table = new MacTable();
		const [honest, flooder] = [new RecordedPort(), new RecordedPort()];
		table.learn(1, honest);
		for (let mac = 1000; mac < 11_000; mac++) table.learn(mac, flooder);
		expect(table.size).toBe(65);
		expect(table.find(1)).toBe(honest);
		expect(table.find(1000)).toBeUndefined();
		expect(table.find(10_999)).toBe(flooder);
	});

	test("fix keeps an address for its port until the port is forgotten", () => {
		const table = new MacTable();
		const [owner, other] = [new RecordedPort(), new RecordedPort()];
		table.learn(1, other);
		table.fix(1, owner);
		expect(table.learn(1, other)).toBe(false);
		expect(table.find(1)).toBe(owner);
		table.forget(owner);
		expect(table.learn(1, other)).toBe(true);
		expect(table.find(1)).toBe(other);
	});
});
