/*
 * What FsDevice keeps of a guest's session in a snapshot, over a file system in memory whose nodes are found by name.
 */
import { constants } from "node:os";
import { expect, test } from "vitest";
import type { Answer, FileSystemState } from "../../../src/backends/contract.ts";
import { MemoryFileSystem } from "../../../src/backends/memory-file-system.ts";
import type { MemoryNode } from "../../../src/backends/memory-node.ts";
import { ErrnoError } from "../../../src/base/errno-error.ts";
import { Logger, setLogLevel } from "../../../src/base/log.ts";
import * as fuse from "../../../src/virtio/fs/constants.ts";
import { FsDevice, type FsDeviceOptions } from "../../../src/virtio/fs/device.ts";
import * as structs from "../../../src/virtio/fs/structs.ts";
import { VIRTIO_MMIO } from "../../../src/virtio/spec.ts";
import type { FakeDriver } from "../../driver/fake-driver.ts";
import { stateSuite } from "../state-suite.ts";
import { FuseDriver, fields, names } from "./fuse-driver.ts";

const { errno } = constants;
const ROOT = fuse.FUSE_ROOT_ID;

setLogLevel("error");

/** Files a, b and c in its root. A file without a name cannot be found again. */
class Named extends MemoryFileSystem {
	released = 0;
	readonly state: FileSystemState<MemoryNode> = {
		saveNode: (node) => {
			const [name] = [...this.root.children].find(([, child]) => child.node === node) ?? [];
			return name === undefined ? undefined : { name };
		},
		readNode: (saved) => {
			const name = saved.string("name", 255);
			return { name, find: () => this.root.child(name) };
		},
		saveFile: () => ({ flags: 2 }),
		readFile: (saved) => {
			const flags = saved.u32("flags");
			return {
				open: (node) => {
					if (flags > 2) throw ErrnoError.of("EACCES");
					return this.reopened(node);
				},
			};
		},
		nameOf: () => "what was removed",
	};

	constructor(files = ["a", "b", "c"]) {
		super();
		for (const name of files) this.addFile(name, `content of ${name}`);
	}

	reopened(node: MemoryNode): Answer<MemoryNode> {
		return node;
	}

	release(): void {
		this.released++;
	}
}

const make = (files?: string[], options: FsDeviceOptions = {}) => new FsDevice("share", new Named(files), options);

/** A guest that holds a, b and c, and has a and the root open. */
async function busy(driver: FakeDriver): Promise<{ guest: FuseDriver; fh: number; ids: Record<string, number> }> {
	const guest = new FuseDriver(driver);
	await guest.mount();
	const ids: Record<string, number> = {};
	for (const name of ["a", "b", "c"]) ids[name] = (await guest.lookup(ROOT, name)).nodeid;
	const { fh } = await guest.open(ids.a!, 2);
	await guest.opendir(ROOT);
	return { guest, fh, ids };
}

stateSuite({ name: "FsDevice", make: () => make(), busy: async (driver) => void (await busy(driver)) });

async function mounted(device = make()) {
	const { driver } = new FuseDriver(device);
	return { driver, ...(await busy(driver)) };
}

const read = (fh: number) => fields(structs.fuse_read_in, { fh, size: 64 });
const getattr = fields(structs.fuse_getattr_in, {});

test("FsDevice goes on with nodes, lookups and open files in another file system", async () => {
	const { driver, guest, fh, ids } = await mounted();
	const fileSystem = new Named();
	const device = new FsDevice("share", fileSystem);
	await driver.moveTo(device);
	expect((await guest.read(ids.a!, fh, 0, 64)).toString()).toBe("content of a");
	expect((await guest.getattr(ids.b!)).size).toBe(12);
	/* It is the same node, now with two lookups: it stays until both are given back. */
	expect((await guest.lookup(ROOT, "b")).nodeid).toBe(ids.b);
	await guest.forget(ids.b!, 1);
	expect((await guest.getattr(ids.b!)).size).toBe(12);
	await guest.forget(ids.b!, 1);
	expect((await guest.request(fuse.FUSE_GETATTR, ids.b!, getattr)).error).toBe(errno.ESTALE);
	/* No number is given twice. */
	expect((await guest.lookup(ROOT, "b")).nodeid).toBeGreaterThan(ids.c!);
	expect((await guest.open(ids.c!)).fh).toBeGreaterThan(fh + 1);
	await guest.release(ids.a!, fh);
	await device.close();
	expect(fileSystem.released).toBe(3);
});

test("FsDevice answers ESTALE for what is not there any more, tells so in one line, and goes on with the rest", async () => {
	const { driver, guest, fh, ids } = await mounted();
	const lines: string[] = [];
	const logger = new Logger({ write: (line) => lines.push(line) });
	const before = Logger.swap(logger);
	try {
		const fileSystem = new Named(["b"]);
		const device = new FsDevice("share", fileSystem, { name: "virtio-fs3" });
		await driver.moveTo(device);
		expect((await guest.request(fuse.FUSE_GETATTR, ids.a!, getattr)).error).toBe(errno.ESTALE);
		expect((await guest.request(fuse.FUSE_READ, ids.a!, read(fh))).error).toBe(errno.ESTALE);
		expect((await guest.request(fuse.FUSE_LOOKUP, ROOT, names("a"))).error).toBe(errno.ENOENT);
		expect((await guest.getattr(ids.b!)).size).toBe(12);
		await guest.release(ids.a!, fh);
		await guest.forget(ids.a!, 1);
		expect(fileSystem.released).toBe(0);
		/* What is lost is kept over another move, as lost. */
		const next = new FsDevice("share", new Named());
		await driver.moveTo(next);
		expect((await guest.request(fuse.FUSE_GETATTR, ids.c!, getattr)).error).toBe(errno.ESTALE);
		expect((await guest.lookup(ROOT, "c")).nodeid).toBeGreaterThan(ids.c!);
		await device.close();
		await next.close();
	} finally {
		Logger.swap(before);
	}
	expect(lines).toEqual([
		"tsvmm: warn: virtio-fs3: 2 of the guest's files are not there any more, and 1 that it has open; the first is a (ENOENT)\n",
	]);
});

test("FsDevice refuses to be saved while the guest has a deleted file open, and names it", async () => {
	const { driver, guest, fh, ids } = await mounted();
	await guest.ok(fuse.FUSE_UNLINK, ROOT, names("b"));
	await driver.transport.quiesce();
	/* Nobody has b open. */
	driver.transport.save();
	driver.transport.resume();
	await guest.ok(fuse.FUSE_UNLINK, ROOT, names("a"));
	await driver.transport.quiesce();
	expect(() => driver.transport.save()).toThrow(
		expect.objectContaining({
			code: "ERR_STATE_UNSUPPORTED",
			message: "Cannot save virtio-fs0: its guest has deleted files open: what was removed",
		}),
	);
	driver.transport.resume();
	expect((await guest.read(ids.a!, fh, 0, 64)).toString()).toBe("content of a");
	await driver.device.close();
});

test("FsDevice on a file system without a state is saved only while the guest has not mounted it", async () => {
	const guest = new FuseDriver(new FsDevice("share", new MemoryFileSystem()));
	await guest.driver.moveTo(new FsDevice("share", new MemoryFileSystem()));
	await guest.mount();
	await guest.driver.transport.quiesce();
	expect(() => guest.driver.transport.save()).toThrow(/Cannot save virtio-fs0: its guest has mounted it/);
	await guest.driver.device.close();
});

test.each<[string, FsDevice, RegExp]>([
	["tag", new FsDevice("other", new Named()), /it had tag "share", not "other"/],
	["cache", make(undefined, { cache: "none" }), /its guest caches "auto", not "none"/],
	["file system", new FsDevice("share", new MemoryFileSystem()), /this file system has no state/],
])("FsDevice.restore refuses another %s", async (_, device, message) => {
	const { driver } = await mounted();
	await driver.transport.quiesce();
	const state = driver.transport.save();
	expect(() => driver.transportFor(device).restore(state)).toThrow(
		expect.objectContaining({ code: "ERR_STATE_MISMATCH", message: expect.stringMatching(message) as string }),
	);
	await driver.device.close();
});

test("FsDevice serves requests only when all is open again, and a reset meanwhile leaves nothing open", async () => {
	const { driver, guest, fh, ids } = await mounted();
	class Slow extends Named {
		readonly waiting: (() => void)[] = [];

		override async reopened(node: MemoryNode): Promise<MemoryNode> {
			await new Promise<void>((resolve) => this.waiting.push(resolve));
			return node;
		}
	}
	const fileSystem = new Slow();
	const device = new FsDevice("share", fileSystem);
	await driver.moveTo(device);
	const head = guest.send(64, fuse.FUSE_READ, ids.a!, read(fh));
	await new Promise((resolve) => setImmediate(resolve));
	expect(driver.queue(1).collect()).toEqual([]);
	expect(fileSystem.waiting).toHaveLength(1);
	fileSystem.waiting.pop()!();
	expect(Buffer.from((await guest.answerTo(head)).bytes).toString()).toBe("content of a");
	const last = new Slow();
	const lastDevice = new FsDevice("share", last);
	await driver.moveTo(lastDevice);
	await new Promise((resolve) => setImmediate(resolve));
	driver.write(VIRTIO_MMIO.Status, 0);
	expect(driver.status).not.toBe(0);
	last.waiting.pop()!();
	await expect.poll(() => driver.status).toBe(0);
	expect(last.released).toBe(2);
	await device.close();
	await lastDevice.close();
});
