/*
 * FsDevice with requests in flight: what they use stays, and a reset and the end wait for them.
 */
import { expect, test } from "vitest";
import { MemoryFileSystem } from "../../../src/backends/memory-file-system.ts";
import * as fuse from "../../../src/virtio/fs/constants.ts";
import { FsDevice } from "../../../src/virtio/fs/device.ts";
import * as structs from "../../../src/virtio/fs/structs.ts";
import { VIRTIO_MMIO } from "../../../src/virtio/spec.ts";
import { FuseDriver, fields } from "./fuse-driver.ts";

const ROOT = fuse.FUSE_ROOT_ID;

/** A file system whose reads wait until the test lets them go. */
class Waiting extends MemoryFileSystem {
	waiting: (() => void)[] = [];
	released = 0;

	override async read(...args: Parameters<MemoryFileSystem["read"]>): Promise<number> {
		await new Promise<void>((resolve) => this.waiting.push(resolve));
		return await super.read(...args);
	}

	release(): void {
		this.released++;
	}
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

async function waiting() {
	const fileSystem = new Waiting();
	fileSystem.addFile("file", "text");
	const device = new FsDevice("share", fileSystem);
	const driver = await FuseDriver.mount(device);
	const { nodeid } = await driver.lookup(ROOT, "file");
	const { fh } = await driver.open(nodeid);
	const head = driver.send(64, fuse.FUSE_READ, nodeid, fields(structs.fuse_read_in, { fh, size: 64 }));
	await turn();
	expect(fileSystem.waiting).toHaveLength(1);
	return { fileSystem, device, driver, nodeid, fh, head };
}

test("a file that is closed, and a node that is forgotten, stay while a request uses them", async () => {
	const { fileSystem, driver, nodeid, fh, head } = await waiting();
	await driver.release(nodeid, fh);
	await driver.forget(nodeid, 1);
	expect(fileSystem.released).toBe(0);
	fileSystem.waiting[0]!();
	expect(Buffer.from((await driver.answerTo(head)).bytes).toString()).toBe("text");
	expect(fileSystem.released).toBe(1);
});

test("a reset with a request in flight is over when the file system has answered, and the guest holds nothing", async () => {
	const { fileSystem, driver } = await waiting();
	const before = driver.driver.ram.snapshot();
	driver.driver.write(VIRTIO_MMIO.Status, 0);
	await turn();
	expect(driver.driver.status).not.toBe(0);
	fileSystem.waiting[0]!();
	await turn();
	expect(driver.driver.status).toBe(0);
	expect(fileSystem.released).toBe(1);
	/* What it read is in the buffer, but the ring says nothing of it. */
	expect(driver.driver.ram.changes(before).length).toBeLessThanOrEqual(4);
	driver.driver.start();
	await driver.mount();
	expect((await driver.lookup(ROOT, "file")).size).toBe(4);
});

test("close waits for requests in flight", async () => {
	const { fileSystem, device } = await waiting();
	let closed = false;
	const closing = device.close().then(() => {
		closed = true;
	});
	await turn();
	expect(closed).toBe(false);
	fileSystem.waiting[0]!();
	await closing;
	expect(fileSystem.released).toBe(1);
});
