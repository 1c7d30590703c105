/*
 * What a device does outside the driver's calls enters the machine by the Enter of its activation.
 */
import type { Duplex } from "node:stream";
import { expect, test } from "vitest";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { MacAddress } from "../../src/base/mac.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { NetDevice } from "../../src/virtio/net.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { readChain } from "../driver/block-chains.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { readable } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { RecordedEnter } from "../driver/recorded-enter.ts";
import { SlowDisk } from "../driver/slow-disk.ts";
import { FakeNet } from "./fake-net.ts";
import { CID, GuestVsock } from "./vsock-guest.ts";

test("BlockDevice enters to publish late answers", async () => {
	const { enter, names } = new RecordedEnter();
	const disk = new SlowDisk(512);
	const driver = new FakeDriver(new BlockDevice(disk), { enter }).start();
	driver.queue(0).add(readChain(0, 512));
	driver.queue(0).kick();
	expect(names).toEqual([]);
	disk.answer();
	await new Promise((resolve) => setImmediate(resolve));
	expect(names).toEqual(["virtio-blk0"]);
	expect(driver.queue(0).collect().length).toBe(1);
});

test("NetDevice enters to go on with more than a turn's frames", async () => {
	const { enter, names } = new RecordedEnter();
	const net = new FakeNet();
	const driver = new FakeDriver(new NetDevice(net, MacAddress.derive("test")), { enter }).start();
	const empty = { write: false, length: 0, gpa: 0 };
	for (let i = 0; i < 100; i++) driver.queue(1).add([readable(Buffer.alloc(72)), ...Array(63).fill(empty)], true);
	driver.queue(1).kick();
	expect([names, net.sent.length]).toEqual([[], 64]);
	await expect.poll(() => names).toEqual(["virtio-net0"]);
	expect(net.sent.length).toBe(100);
});

test("VsockDevice enters for a backend's answer and for all that a stream tells", async () => {
	const { enter, names } = new RecordedEnter();
	const backend = await UnixVsock.open();
	const device = new VsockDevice(CID, backend);
	const guest = new GuestVsock(new FakeDriver(device, { ram: new FakeRam([[0, 8 << 20]]), enter }).start());
	const accepted = new Promise<Duplex>((resolve) => backend.listen(52, resolve));
	const stream = guest.connect(52);
	const host = await accepted;
	await guest.until(() => stream.state === "established", "the connection");
	const counts = [names.length];
	host.write("hello");
	await guest.until(() => stream.receivedBytes === 5, "the host's bytes");
	counts.push(names.length);
	host.destroy();
	await guest.until(() => stream.state === "reset", "the reset");
	counts.push(names.length);
	expect(counts[0]).toBeGreaterThan(0);
	expect(counts[1]).toBeGreaterThan(counts[0]!);
	expect(counts[2]).toBeGreaterThan(counts[1]!);
	await device.close();
});

test("VsockDevice destroys a stream that opens when the machine has ended", async () => {
	let ended = false;
	const backend = await UnixVsock.open();
	const device = new VsockDevice(CID, backend);
	const enter = (_: string, run: () => void) => void (ended || run());
	const guest = new GuestVsock(new FakeDriver(device, { ram: new FakeRam([[0, 8 << 20]]), enter }).start());
	const accepted = new Promise<Duplex>((resolve) => backend.listen(52, resolve));
	guest.connect(52);
	ended = true;
	const host = await accepted;
	await expect.poll(() => host.destroyed).toBe(true);
	await device.close();
});
