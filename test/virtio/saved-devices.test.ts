/*
 * Devices that move to another machine in the middle of their traffic, over the same guest memory. Nothing that the
 * driver was promised is lost: no request, no byte of input, no frame that was taken.
 */
import type { Duplex } from "node:stream";
import { describe, expect, test } from "vitest";
import type { ConsoleBackend, ConsoleEvents, VsockBackend } from "../../src/backends/contract.ts";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { MacAddress } from "../../src/base/mac.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { ConsoleDevice } from "../../src/virtio/console.ts";
import type { VirtioDevice } from "../../src/virtio/device.ts";
import { NetDevice, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS, virtio_net_config } from "../../src/virtio/net.ts";
import { INTERRUPT_CONFIG_CHANGE } from "../../src/virtio/spec.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { pattern, rangeChain, readChain, status, writeChain } from "../driver/block-chains.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { concat, readable, writable } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { SlowDisk } from "../driver/slow-disk.ts";
import { FakeNet, FULL, PLAIN } from "./fake-net.ts";
import { stateSuite } from "./state-suite.ts";
import { CID, GuestVsock } from "./vsock-guest.ts";

const MAC = MacAddress.parse("52:54:00:01:02:03");
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const codeOf = (run: () => void) => {
	try {
		run();
	} catch (error) {
		return (error as { code: string }).code;
	}
	return "taken";
};

class Terminal implements ConsoleBackend {
	readonly size: ConsoleBackend["size"];
	output = "";
	room = true;
	inputWanted = true;
	events!: ConsoleEvents;

	constructor(columns = 80) {
		this.size = { columns, rows: 25 };
	}
	start(events: ConsoleEvents): void {
		this.events = events;
	}
	write(bytes: Uint8Array): boolean {
		this.output += Buffer.from(bytes).toString("latin1");
		return this.room;
	}
	setInputWanted(wanted: boolean): void {
		this.inputWanted = wanted;
	}
	async close(): Promise<void> {
		this.output += "(closed)";
	}
}

const refusing: VsockBackend = { start: () => undefined, open: async () => undefined, close: async () => undefined };

stateSuite({
	name: "BlockDevice",
	make: () => new BlockDevice(new MemoryDisk(65_536), { queues: 2 }),
	busy: (driver) => {
		for (let i = 0; i < 3; i++) driver.queue(0).add(writeChain(i, pattern(i)));
		driver.queue(0).kick();
		driver.queue(0).collect();
		for (let i = 0; i < 3; i++) driver.queue(0).add(readChain(i, 512));
	},
});
stateSuite({
	name: "ConsoleDevice",
	make: () => new ConsoleDevice(new Terminal()),
	busy: (driver) => {
		driver.queue(1).add([readable("output")]);
		driver.queue(1).kick();
		driver.queue(0).add([writable(8)]);
	},
});
stateSuite({
	name: "NetDevice",
	make: () => new NetDevice(new FakeNet(PLAIN), MAC),
	busy: (driver) => {
		for (let i = 0; i < 3; i++) driver.queue(0).add([writable(400)]);
		driver.queue(1).add([readable(new Uint8Array(80))]);
		for (const queue of [0, 1]) driver.queue(queue).kick();
	},
});
stateSuite({
	name: "VsockDevice",
	make: () => new VsockDevice(CID, refusing),
	busy: (driver) => {
		for (const queue of [0, 2]) {
			for (let i = 0; i < 2; i++) driver.queue(queue).add([writable(100)]);
			driver.queue(queue).kick();
		}
	},
});

describe("BlockDevice", () => {
	test("BlockDevice.quiesce waits for every request, those in several steps included", async () => {
		const disk = new SlowDisk(65_536);
		const driver = new FakeDriver(new BlockDevice(disk)).start();
		const queue = driver.queue(0);
		const read = queue.add(readChain(1, 512));
		const zeroes = queue.add(rangeChain(13, { sector: 0, sectors: 8 }, { sector: 16, sectors: 8 }));
		queue.kick();
		let done = false;
		const quiesced = Promise.all([driver.transport.quiesce(), driver.transport.quiesce()]).then(() => {
			done = true;
		});
		const late = queue.add(readChain(2, 512));
		queue.rawKick();
		disk.answer();
		await turn();
		disk.answer();
		await turn();
		expect(done).toBe(false);
		disk.answer();
		await quiesced;
		expect(queue.collect().map(({ head }) => head)).toEqual([read, zeroes]);
		expect(disk.held).toEqual([]);
		driver.transport.resume();
		disk.answer();
		expect((await queue.next(late)).written).toBe(513);
	});

	test.each([true, false])(
		"BlockDevice moves under load and every request is answered once (EVENT_IDX %s)",
		async (eventIdx) => {
			const disk = new MemoryDisk(4 << 20);
			let slow = new SlowDisk(disk.sizeBytes);
			const ram = new FakeRam([[0, 64 << 20]]);
			const driver = new FakeDriver(new BlockDevice(slow), { eventIdx, ram, queueSize: 64 }).start();
			const queue = driver.queue(0);
			const asked = new Map<number, number>();
			let answered = 0;
			const take = () => {
				for (const used of queue.collect()) {
					expect([asked.has(used.head), status(used)]).toEqual([true, 0]);
					asked.delete(used.head);
					answered++;
				}
			};
			for (let round = 0, sector = 0; round < 12; round++) {
				for (let i = 0; i < 8; i++, sector++) asked.set(queue.add(writeChain(sector, pattern(sector))), sector);
				queue.kick();
				for (let i = 0; i < 3; i++) slow.answer(i % 2);
				const next = new SlowDisk(disk.sizeBytes);
				const old = slow;
				const moving = driver.moveTo(new BlockDevice(next));
				asked.set(queue.add(writeChain(sector, pattern(sector))), sector);
				sector++;
				queue.kick();
				while (old.held.length > 0) {
					old.answer();
					await turn();
				}
				await moving;
				/* The same medium behind another backend. */
				next.bytes.set(old.bytes);
				slow = next;
				take();
			}
			while (slow.held.length > 0) slow.answer();
			await turn();
			take();
			expect([asked.size, answered]).toEqual([0, 12 * 9]);
			const all = Array.from({ length: 12 * 9 }, (_, sector) => pattern(sector));
			expect(slow.bytes.subarray(0, 12 * 9 * 512)).toEqual(concat(...all));
		},
	);

	test("BlockDevice.restore takes a larger disk, which the driver hears of, and neither a smaller nor a read-only one", async () => {
		const driver = new FakeDriver(new BlockDevice(new MemoryDisk(4096))).start();
		await driver.transport.quiesce();
		const state = driver.transport.save();
		const restored = (disk: MemoryDisk) => codeOf(() => driver.transportFor(new BlockDevice(disk)).restore(state));
		expect(restored(new MemoryDisk(2048))).toBe("ERR_STATE_MISMATCH");
		expect(restored(new MemoryDisk(4096, true))).toBe("ERR_STATE_MISMATCH");
		await driver.moveTo(new BlockDevice(new MemoryDisk(8192)));
		expect(driver.acknowledge()).toBe(INTERRUPT_CONFIG_CHANGE);
		expect(driver.config(0, 8)[0]).toBe(16);
	});
});

test("ConsoleDevice keeps what was typed and output that a blocked terminal has not taken", async () => {
	const before = new Terminal();
	const driver = new FakeDriver(new ConsoleDevice(before)).start();
	before.events.input(Buffer.from("typed "));
	before.room = false;
	for (const word of ["one ", "two ", "three "]) driver.queue(1).add([readable(word)]);
	driver.queue(1).kick();
	before.events.input(Buffer.from("ahead"));
	expect(before.output).toBe("one ");
	const used = await driver.queue(0).request([writable(3)]);
	expect(Buffer.from(used.data).toString()).toBe("typ");
	const after = new Terminal(132);
	await driver.moveTo(new ConsoleDevice(after));
	expect(before.output + after.output).toBe("one two three ");
	expect(driver.acknowledge() & INTERRUPT_CONFIG_CHANGE).toBe(INTERRUPT_CONFIG_CHANGE);
	expect(driver.config(0, 2)[0]).toBe(132);
	after.events.input(Buffer.from("!"));
	const rest = await driver.queue(0).request([writable(64)]);
	expect(Buffer.from(rest.data.subarray(0, rest.written)).toString()).toBe("ed ahead!");
});

describe.each([PLAIN, FULL])("NetDevice with %o", (offloads) => {
	const make = (net: FakeNet) => new NetDevice(net, MAC);
	const frame = (n: number) => Buffer.alloc(100, n);
	const headed = (n: number) => Buffer.concat([Buffer.alloc(12), frame(n)]);
	const coming = (n: number) => (offloads.vnetHeader ? headed(n) : frame(n));
	const seen = (net: FakeNet) => net.sent.map((bytes) => bytes.at(-1));

	test("NetDevice moves with frames that the network had no room for, each is sent once and in order", async () => {
		const before = new FakeNet(offloads);
		const driver = new FakeDriver(make(before)).start();
		before.room = 2;
		for (let n = 1; n <= 6; n++) driver.queue(1).add([readable(headed(n))]);
		driver.queue(1).kick();
		const after = new FakeNet(offloads);
		await driver.moveTo(make(after));
		expect([...seen(before), ...seen(after)]).toEqual([1, 2, 3, 4, 5, 6]);
		expect(driver.queue(1).collect()).toHaveLength(6);
		before.makeRoom();
		expect(before.sent).toHaveLength(2);
		await driver.device.close();
	});

	test("NetDevice gives receive buffers back, so that a driver's ring is whole in the new machine", async () => {
		const before = new FakeNet(offloads);
		const driver = new FakeDriver(make(before)).start();
		for (let n = 0; n < 4; n++) driver.queue(0).add([writable(40)]);
		driver.queue(0).kick();
		/* Held, and too few for a frame that must wait for more. */
		before.arrive(coming(1), coming(2));
		await turn();
		const after = new FakeNet(offloads);
		const state = await driver.moveTo(make(after));
		for (let n = 0; n < 8; n++) driver.queue(0).add([writable(40)]);
		driver.queue(0).kick();
		after.arrive(coming(3));
		await turn();
		const used = driver.queue(0).collect();
		const bytes = concat(...used.map(({ data, written }) => data.subarray(0, written)));
		expect(state).toMatchObject({ device: { version: 1 } });
		const frames: number[] = [];
		for (let at = 0; at + 112 <= bytes.length; at += 112) frames.push(bytes[at + 111]!);
		expect(frames.length + before.waiting).toBe(3);
		expect(frames.at(-1)).toBe(3);
		await driver.device.close();
	});

	test("NetDevice takes the link down for a moment after a restore, if the driver can see that", async () => {
		const driver = new FakeDriver(make(new FakeNet(offloads))).start();
		const link = () => driver.config(virtio_net_config.status, 2)[0];
		await driver.moveTo(make(new FakeNet(offloads)));
		expect([driver.acknowledge() & INTERRUPT_CONFIG_CHANGE, link()]).toEqual([INTERRUPT_CONFIG_CHANGE, 0]);
		await driver.moveTo(make(new FakeNet(offloads)));
		while ((driver.acknowledge() & INTERRUPT_CONFIG_CHANGE) === 0 || link() === 0) await driver.interrupted();
		expect(link()).toBe(1);
		const blind = new FakeDriver(make(new FakeNet(offloads)), { without: VIRTIO_NET_F_STATUS }).start();
		await blind.moveTo(make(new FakeNet(offloads)));
		expect(blind.acknowledge()).toBe(0);
		await driver.device.close();
	});
});

test("NetDevice carries a frame that waits for buffers of a driver without MRG_RXBUF", async () => {
	const before = new FakeNet(PLAIN);
	const driver = new FakeDriver(new NetDevice(before, MAC), { without: VIRTIO_NET_F_MRG_RXBUF }).start();
	/* Too small for a whole frame: the first comes through the buffer of ours. */
	driver.queue(0).add([writable(20)]);
	driver.queue(0).kick();
	before.arrive(Buffer.alloc(60, 1), Buffer.alloc(60, 2));
	await turn();
	await driver.moveTo(new NetDevice(new FakeNet(PLAIN), MAC));
	driver.queue(0).add([writable(2000)]);
	driver.queue(0).kick();
	await turn();
	expect(driver.needsReset).toBe(false);
	await driver.device.close();
});

test("NetDevice.restore refuses a network without the offloads that the driver uses", async () => {
	const driver = new FakeDriver(new NetDevice(new FakeNet(FULL), MAC)).start();
	await driver.transport.quiesce();
	const state = driver.transport.save();
	const plain = driver.transportFor(new NetDevice(new FakeNet(PLAIN), MAC));
	expect(codeOf(() => plain.restore(state))).toBe("ERR_STATE_MISMATCH");
});

describe("VsockDevice", () => {
	async function moved(postEvents: number) {
		const backend = await UnixVsock.open();
		const before: VirtioDevice = new VsockDevice(CID, backend);
		const driver = new FakeDriver(before, { ram: new FakeRam([[0, 8 << 20]]) }).start();
		const guest = new GuestVsock(driver);
		const accepted = new Promise<Duplex>((resolve) => backend.listen(52, resolve));
		const stream = guest.connect(52);
		const host = await accepted;
		await guest.until(() => stream.state === "established", "the connection");
		for (let i = 0; i < postEvents; i++) driver.queue(2).add([writable(4)]);
		driver.queue(2).kick();
		stream.write("in flight");
		const next = await UnixVsock.open();
		const after = new VsockDevice(CID, next);
		await driver.moveTo(after);
		return { before, after, driver, guest, host, next };
	}

	test("VsockDevice resets the transport after a restore, and takes new streams", async () => {
		const { before, after, driver, guest, host, next } = await moved(2);
		const events = driver.queue(2).collect();
		expect(events.map(({ written, data }) => [written, ...data])).toEqual([[4, 0, 0, 0, 0]]);
		/* Linux resets its sockets at that event. */
		guest.streams.clear();
		const accepted = new Promise<Duplex>((resolve) => next.listen(53, resolve));
		const stream = guest.connect(53);
		const other = await accepted;
		other.write("hello");
		await guest.until(() => stream.receivedBytes === 5, "the new stream");
		expect(driver.needsReset).toBe(false);
		host.destroy();
		await before.close();
		await after.close();
	});

	test("VsockDevice refuses streams that the guest would reset, until it has read that its old ones are gone", async () => {
		const { before, after, driver, guest, host, next } = await moved(2);
		let accepted = 0;
		next.listen(53, (stream) => {
			accepted++;
			stream.resume();
		});
		guest.streams.clear();
		const early = guest.connect(53);
		await guest.until(() => early.state === "reset", "the refusal");
		expect(accepted).toBe(0);
		driver.queue(2).collect();
		guest.streams.clear();
		const late = guest.connect(53);
		await guest.until(() => late.state === "established", "the connection");
		expect(accepted).toBe(1);
		host.destroy();
		await before.close();
		await after.close();
	});

	test("VsockDevice keeps the transport reset until the driver has a buffer for it, over another move", async () => {
		const { before, after, driver, host } = await moved(0);
		const last = new VsockDevice(CID, await UnixVsock.open());
		await driver.moveTo(last);
		driver.queue(2).add([writable(2)]);
		driver.queue(2).add([writable(8)]);
		driver.queue(2).add([writable(8)]);
		driver.queue(2).kick();
		expect(
			driver
				.queue(2)
				.collect()
				.map(({ written }) => written),
		).toEqual([0, 4]);
		host.destroy();
		for (const device of [before, after, last]) await device.close();
	});

	test("VsockDevice goes on with its streams when it was only halted", async () => {
		const backend = await UnixVsock.open();
		const device = new VsockDevice(CID, backend);
		const driver = new FakeDriver(device, { ram: new FakeRam([[0, 8 << 20]]) }).start();
		const guest = new GuestVsock(driver);
		const accepted = new Promise<Duplex>((resolve) => backend.listen(52, resolve));
		const stream = guest.connect(52);
		const host = await accepted;
		await guest.until(() => stream.state === "established", "the connection");
		await driver.transport.quiesce();
		host.write("while halted");
		stream.write("from the guest");
		await guest.settle(5);
		expect(stream.receivedBytes).toBe(0);
		driver.transport.resume();
		await guest.until(() => stream.receivedBytes === 12, "the bytes");
		let text = "";
		host.on("data", (chunk) => {
			text += chunk;
		});
		await guest.until(() => text === "from the guest", "the guest's bytes");
		await device.close();
	});
});
