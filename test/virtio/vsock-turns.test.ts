/*
 * How the socket device shares the event loop: its queues end their turns by the limits of Virtqueue.
 */
import { afterEach, expect, test } from "vitest";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { readable } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { CID, GuestVsock, header, OP } from "./vsock-guest.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const open: VsockDevice[] = [];

afterEach(async () => {
	for (const device of open.splice(0)) await device.close();
});

/** A guest without receive buffers. */
async function started() {
	const device = new VsockDevice(CID, await UnixVsock.open());
	open.push(device);
	const driver = new FakeDriver(device, { ram: new FakeRam([[0, 8 << 20]]) }).start();
	return { driver, guest: new GuestVsock(driver, { rxBuffers: 0 }) };
}

test("VsockDevice goes on with a guest that had to wait as soon as it gives receive buffers", async () => {
	const { guest, driver } = await started();
	const [rx, tx] = [driver.queue(0), driver.queue(1)];
	for (let i = 0; i < 256; i++) guest.raw({ srcPort: i, op: OP.RW });
	expect(tx.collect().length).toBe(256);
	for (let i = 0; i < 100; i++) guest.raw({ srcPort: i, op: OP.RW });
	expect(tx.collect().length).toBe(0);
	for (let i = 0; i < 200; i++) rx.add([{ write: true, length: 64 }]);
	rx.kick();
	expect([rx.collect().length, tx.collect().length]).toEqual([200, 100]);
});

test("VsockDevice shares the event loop in both directions", async () => {
	const { driver } = await started();
	const [rx, tx] = [driver.queue(0), driver.queue(1)];
	/* A turn ends with 4096 descriptors, or with 16 MiB of buffers. */
	for (let i = 0; i < 40; i++) rx.add([{ write: true, length: 1 << 20, gpa: 1 << 20 }]);
	rx.kick();
	const parts = Array(63).fill({ write: false, length: 0, gpa: 0 });
	for (let i = 0; i < 100; i++) tx.add([readable(header({ srcPort: i, op: OP.RW }, 0)), ...parts], true);
	tx.kick();
	expect([tx.collect().length, rx.collect().length]).toEqual([64, 16]);
	await turn();
	expect([tx.collect().length, rx.collect().length]).toEqual([36, 16]);
	await turn();
	expect([tx.collect().length, rx.collect().length]).toEqual([0, 8]);
});

test("VsockDevice raises one interrupt for a notification that it answers on two queues", async () => {
	const { guest, driver } = await started();
	const [rx, tx] = [driver.queue(0), driver.queue(1)];
	rx.add([{ write: true, length: 64 }]);
	rx.kick();
	const before = driver.interrupts;
	guest.raw({ srcPort: 1, op: OP.RW });
	expect([rx.collect().length, tx.collect().length, driver.interrupts - before]).toEqual([1, 1, 1]);
});
