/* Each device type's chains as events, from a fake driver that works with the real device. */
import type { Duplex } from "node:stream";
import { describe, expect, test } from "vitest";
import { encodeFrame, FRAME, VSOCK_AGENT_PORT } from "../../src/agent/protocol.ts";
import { MemoryFileSystem } from "../../src/backends/memory-file-system.ts";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { MacAddress } from "../../src/base/mac.ts";
import { Observers } from "../../src/base/observer.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { FsDevice } from "../../src/virtio/fs/device.ts";
import { NetDevice } from "../../src/virtio/net.ts";
import { RngDevice } from "../../src/virtio/rng.ts";
import { ACKNOWLEDGE, DRIVER, VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { header, readChain } from "../driver/block-chains.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { readable, writable } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { SlowDisk } from "../driver/slow-disk.ts";
import { FakeNet } from "../virtio/fake-net.ts";
import { FuseDriver, names } from "../virtio/fs/fuse-driver.ts";
import { GuestVsock, OP } from "../virtio/vsock-guest.ts";
import { record } from "./recorded.ts";

const MAC = MacAddress.parse("02:00:00:00:00:01");

describe("eventObserver", () => {
	test("a request of the block device is a chain with its header, and a used buffer with the status", async () => {
		const disk = new SlowDisk(65_536);
		const driver = new FakeDriver(new BlockDevice(disk)).start();
		const seen = record(driver.observers);
		const head = driver.queue(0).add(readChain(8, 512, 1024));
		driver.queue(0).kick();
		disk.answer();
		await driver.queue(0).next(head);
		expect(seen.events.map(({ kind }) => kind)).toEqual(["kick", "chain", "complete", "used", "interrupt"]);
		expect(seen.of("chain")[0]).toMatchObject({
			device: "virtio-blk0",
			queue: 0,
			name: "requestq",
			head,
			readableBytes: 16,
			writableBytes: 1537,
			request: { protocol: "blk", type: "VIRTIO_BLK_T_IN", sector: 8, bytes: 1536 },
		});
		const { readable: pieces, writable: targets } = seen.of("chain")[0]!;
		expect([...pieces, ...targets].map(({ bytes }) => bytes)).toEqual([16, 512, 1024, 1]);
		expect(pieces[0]!.gpa).toBeGreaterThan(0);
		expect(seen.of("used")[0]).toMatchObject({ written: 1537, answer: { status: "VIRTIO_BLK_S_OK" } });
		expect(seen.of("used")[0]!.took).toBe(seen.of("used")[0]!.t - seen.of("chain")[0]!.t);
		expect(seen.of("interrupt")[0]!.cause).toEqual(["used buffer"]);
	});

	test("requests that make no sense have their numbers, or no header", async () => {
		const driver = new FakeDriver(new BlockDevice(new SlowDisk(65_536))).start();
		const seen = record(driver.observers);
		await driver.queue(0).request([readable(header(77, 2 ** 40)), writable(1)]);
		await driver.queue(0).request([readable("short"), writable(1)]);
		expect(seen.of("chain").map(({ request }) => request)).toEqual([
			{ protocol: "blk", type: "VIRTIO_BLK_T_77", sector: 2 ** 40, bytes: 0 },
			undefined,
		]);
		expect(seen.of("used")[0]!.answer).toEqual({ protocol: "blk", status: "VIRTIO_BLK_S_UNSUPP" });
	});

	test("a driver's steps are status events with names, and a wrong step is a fault", () => {
		const driver = new FakeDriver(new BlockDevice(new SlowDisk(65_536)));
		const seen = record(driver.observers);
		driver.start();
		expect(seen.of("status").map(({ bits }) => bits.join(" "))).toEqual([
			"",
			"ACKNOWLEDGE",
			"ACKNOWLEDGE DRIVER",
			"ACKNOWLEDGE DRIVER FEATURES_OK",
			"ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK",
		]);
		expect(seen.of("status").at(-1)!.featureNames).toEqual(
			expect.arrayContaining(["VIRTIO_F_VERSION_1", "VIRTIO_BLK_F_FLUSH"]),
		);
		expect(seen.of("boot").map(({ phase }) => phase)).toEqual(["device found", "driver ready"]);
		expect(seen.of("violation")).toEqual([]);
		driver.write(VIRTIO_MMIO.Status, ACKNOWLEDGE | DRIVER);
		driver.write(VIRTIO_MMIO.QueueNotify, 5);
		driver.queue(0).rawAvailable(4096);
		driver.queue(0).rawKick();
		expect(seen.of("violation").map(({ what, needsReset }) => [what, needsReset])).toEqual([
			["ignored status 0x3 after 0xf", false],
			["ignored a notification of queue 5: the queue is not ready", false],
			["head 4096 is outside a queue of 256", true],
		]);
		driver.reset();
		driver.write(VIRTIO_MMIO.QueueNotify, 0);
		expect(seen.of("violation").at(-1)!.what).toBe("ignored a notification of queue 0: DRIVER_OK is not set");
	});

	test("frames of the net device are decoded, and given as packets", async () => {
		const net = new FakeNet();
		const driver = new FakeDriver(new NetDevice(net, MAC), { ram: new FakeRam([[0, 4 << 20]]) }).start();
		const seen = record(driver.observers);
		const frame = Buffer.concat([Buffer.from("ffffffffffff0200000000010806", "hex"), Buffer.alloc(28, 7)]);
		await driver.queue(1).request([readable(Buffer.alloc(12)), readable(frame)]);
		/* Three buffers that one frame fills. */
		for (let i = 0; i < 3; i++) driver.queue(0).add([writable(100)]);
		driver.queue(0).kick();
		const large = Buffer.concat([Buffer.from("020000000001aabbccddeeff0800", "hex"), Buffer.alloc(200, 9)]);
		net.arrive(large);
		expect(seen.of("chain")[0]!.request).toEqual({
			protocol: "net",
			bytes: 42,
			source: "02:00:00:00:00:01",
			destination: "ff:ff:ff:ff:ff:ff",
			etherType: "ARP",
		});
		const received = seen.of("used").find(({ queue }) => queue === 0)!;
		expect(received.answer).toMatchObject({ source: "aa:bb:cc:dd:ee:ff", etherType: "IPv4", buffers: 3 });
		expect(seen.packets.map(({ toGuest, link, bytes }) => [toGuest, link, bytes.toString("hex")])).toEqual([
			[false, "ethernet", frame.toString("hex")],
			[true, "ethernet", large.toString("hex")],
		]);
	});

	test("packets of the vsock device are decoded, and the agent's frames found in them", async () => {
		const backend = await UnixVsock.open();
		const device = new VsockDevice(3, backend);
		const driver = new FakeDriver(device, { ram: new FakeRam([[0, 8 << 20]]) }).start();
		const seen = record(driver.observers);
		const guest = new GuestVsock(driver);
		const accepted = new Promise<Duplex>((resolve) => backend.listen(VSOCK_AGENT_PORT, resolve));
		const stream = guest.connect(VSOCK_AGENT_PORT);
		const host = await accepted;
		await guest.until(() => stream.state === "established");
		const frames = Buffer.concat([
			encodeFrame(FRAME.EXEC, 1, 7, Buffer.alloc(5000)),
			encodeFrame(FRAME.CREDIT, 0, 9, Buffer.alloc(4)),
		]);
		host.write(frames.subarray(0, 6));
		await guest.until(() => stream.receivedBytes === 6);
		host.write(frames.subarray(6));
		stream.write(encodeFrame(FRAME.STARTED, 0, 7, Buffer.alloc(4)));
		await guest.until(() => stream.receivedBytes === frames.length && stream.outgoing.length === 0);
		expect(seen.of("agent").map(({ t: _, kind: __, ...frame }) => frame)).toEqual(
			expect.arrayContaining([
				{ toGuest: true, frame: "EXEC", session: 7, bytes: 5000, flags: 1 },
				{ toGuest: true, frame: "CREDIT", session: 9, bytes: 4, flags: 0 },
				{ toGuest: false, frame: "STARTED", session: 7, bytes: 4, flags: 0 },
			]),
		);
		const [request] = seen.of("chain").flatMap((event) => event.request ?? []);
		expect(request).toMatchObject({
			op: "VIRTIO_VSOCK_OP_REQUEST",
			sourceCid: 3,
			sourcePort: stream.guestPort,
			destinationCid: 2,
			destinationPort: VSOCK_AGENT_PORT,
		});
		const sent = seen.packets.filter(({ toGuest, bytes }) => toGuest && bytes.readUInt16LE(30) === OP.RW);
		expect(Buffer.concat(sent.map(({ bytes }) => bytes.subarray(44))).equals(frames)).toBe(true);
		await device.close();
	});

	test("FUSE requests have opcode, node and name, answers their errno", async () => {
		const fuse = await FuseDriver.mount(new FsDevice("share", new MemoryFileSystem()));
		const seen = record(fuse.driver.observers);
		await fuse.request(1, 1, names("absent"));
		expect(seen.of("chain")[0]!.request).toMatchObject({ opcode: "FUSE_LOOKUP", nodeid: 1, name: "absent" });
		expect(seen.of("used")[0]!.answer).toMatchObject({ protocol: "fuse", error: 2 });
		expect(seen.of("chain")[0]!.name).toBe("request");
	});

	test("a filter leaves out other kinds and devices, and their decoding", async () => {
		const driver = new FakeDriver(new RngDevice()).start();
		const kicks = record(driver.observers, "interrupts", "blk");
		const own = record(driver.observers, "rng0");
		await driver.queue(0).request([writable(16)]);
		expect(kicks.events.map(({ kind }) => kind)).toEqual(["interrupt"]);
		expect(own.events.map(({ kind }) => kind)).toEqual(["kick", "chain", "used", "interrupt"]);
	});

	test("the time begins at the machine's start, and the kernel's lines are phases of its boot", () => {
		const observers = new Observers();
		const seen = record(observers);
		const machine = { cpus: 1, memoryMiB: 64, kernel: "k", cmdline: "", devices: [], restored: false };
		observers.observer?.machine?.({ state: "created", ...machine });
		/* A device that is added to a restored machine. */
		observers.observer?.interrupt?.("hot-plug", undefined);
		observers.observer?.machine?.({ state: "started" });
		observers.observer?.exit?.(0, 2);
		observers.observer?.resume?.(0);
		const console = (text: string) => observers.observer?.console?.("serial", Buffer.from(text));
		console("[    0.000000] Linux version 6.1\r\n[    0.10");
		console("0000] ACPI: RSDP 0x0\nhello\n[    0.500000][    T1] Kernel panic - not syncing: no root\n");
		expect(seen.of("machine").map(({ t, state }) => [t, state])).toEqual([
			[0, "created"],
			[0, "started"],
		]);
		expect(seen.of("boot").map(({ phase, kernelSeconds }) => [phase, kernelSeconds])).toEqual([
			["entry", undefined],
			["kernel", 0],
			["ACPI tables", 0.1],
			["panic", 0.5],
		]);
		expect(seen.of("interrupt")).toMatchObject([{ t: 0 }]);
		expect(seen.of("exit")).toMatchObject([{ vcpu: 0, reason: "KVM_EXIT_IO" }]);
		expect(seen.of("resume")[0]!.took).toBe(seen.of("resume")[0]!.t - seen.of("exit")[0]!.t);
		const times = seen.events.map(({ t }) => t);
		expect(times).toEqual([...times].sort((a, b) => a - b));
	});

	test("registers have their names, and an acknowledgement its interrupt", () => {
		const observers = new Observers();
		const seen = record(observers);
		const access = (...args: Parameters<NonNullable<NonNullable<typeof observers.observer>["access"]>>) =>
			observers.observer?.access?.(...args);
		access("pio", "serial", true, 0x3f8, 1, 65);
		access("pio", "serial", false, 0x3fd, 1, 0x60);
		access("mmio", "virtio-blk0", true, 0xd0000070, 4, 1);
		access("mmio", "virtio-blk0", false, 0xd0001108, 4, 1);
		access("pio", "nothing", true, 0x80, 1, 1);
		observers.observer?.interrupt?.("virtio-blk0", 1);
		access("mmio", "virtio-blk0", true, 0xd0000064, 4, 1);
		expect(seen.of("access").map(({ register }) => register)).toEqual([
			...["THR", "LSR", "Status", "Config+8", undefined, "InterruptACK"],
		]);
		expect(seen.of("acknowledge")[0]).toMatchObject({ cause: ["used buffer"], took: expect.any(Number) });
	});
});
