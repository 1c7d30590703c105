/*
 * Directories of this machine in one file system of a fake guest: each is apart from the others, and one that has gone
 * is not reached any more.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { HostDirectory } from "../../../src/backends/host-directory/host-directory.ts";
import { HostTree } from "../../../src/backends/host-directory/host-tree.ts";
import { setLogLevel } from "../../../src/base/log.ts";
import { GuestRam } from "../../../src/host/ram.ts";
import * as fuse from "../../../src/virtio/fs/constants.ts";
import { FsDevice } from "../../../src/virtio/fs/device.ts";
import * as structs from "../../../src/virtio/fs/structs.ts";
import { FakeRam } from "../../driver/fake-ram.ts";
import { FuseDriver, fields, names } from "../../virtio/fs/fuse-driver.ts";

const { EPERM, EROFS, ESTALE, EXDEV } = constants.errno;
const ROOT = fuse.FUSE_ROOT_ID;
const RAM_BYTES = 16 << 20;

setLogLevel("error");

let folder: string;
let ram: GuestRam;
let tree: HostTree;
let device: FsDevice;
let guest: FuseDriver;

beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), "host-tree-"));
	for (const name of ["a", "b"]) {
		mkdirSync(join(folder, name));
		writeFileSync(join(folder, name, "file"), name);
	}
	tree = new HostTree();
	tree.add("a", await HostDirectory.open(join(folder, "a")));
	tree.add("b", await HostDirectory.open(join(folder, "b"), { readOnly: true }));
	device = new FsDevice("tree", tree, { cache: "none" });
	ram = GuestRam.map([{ gpa: 0, sizeBytes: RAM_BYTES }]);
	guest = await FuseDriver.mount(device, { ram: new FakeRam([[0, RAM_BYTES]], () => ram.regions[0]!) });
});

afterEach(async () => {
	await device.close();
	ram.close();
	rmSync(folder, { recursive: true });
});

async function errorOf(opcode: number, nodeid: number, ...parts: Uint8Array[]): Promise<number> {
	return (await guest.request(opcode, nodeid, ...parts)).error;
}

test("each directory is an entry of the root, which the guest cannot change", async () => {
	expect((await guest.readdir(ROOT)).map(({ name }) => name)).toEqual(["a", "b"]);
	for (const name of ["a", "b"]) {
		const { nodeid } = await guest.lookup(ROOT, name);
		const file = await guest.lookup(nodeid, "file");
		const { fh } = await guest.open(file.nodeid);
		expect(`${await guest.read(file.nodeid, fh, 0, 10)}`).toBe(name);
	}
	const made = fields(structs.fuse_mkdir_in, { mode: 0o755 });
	expect(await errorOf(fuse.FUSE_MKDIR, ROOT, made, names("c"))).toBe(EPERM);
	expect(await errorOf(fuse.FUSE_RMDIR, ROOT, names("a"))).toBe(EPERM);
});

test("what the guest writes is in its directory, and nothing is in one that is read-only", async () => {
	const a = await guest.lookup(ROOT, "a");
	const { nodeid, fh } = await guest.create(a.nodeid, "new");
	await guest.write(nodeid, fh, 0, "from the guest");
	expect(readFileSync(join(folder, "a/new"), "utf8")).toBe("from the guest");
	const b = await guest.lookup(ROOT, "b");
	const create = fields(structs.fuse_create_in, { flags: 2, mode: 0o600 });
	expect(await errorOf(fuse.FUSE_CREATE, b.nodeid, create, names("new"))).toBe(EROFS);
	const file = await guest.lookup(b.nodeid, "file");
	/* O_RDONLY | O_TRUNC would empty it. */
	for (const flags of [1, 2, 0o1000]) {
		const open = fields(structs.fuse_open_in, { flags });
		expect(await errorOf(fuse.FUSE_OPEN, file.nodeid, open), `flags ${flags}`).toBe(EROFS);
	}
	const size = fields(structs.fuse_setattr_in, { valid: fuse.FATTR_SIZE });
	expect(await errorOf(fuse.FUSE_SETATTR, file.nodeid, size)).toBe(EROFS);
	expect(readdirSync(join(folder, "b"))).toEqual(["file"]);
	expect(readFileSync(join(folder, "b/file"), "utf8")).toBe("b");
});

test("two directories are two file systems", async () => {
	const [a, b] = [await guest.lookup(ROOT, "a"), await guest.lookup(ROOT, "b")];
	const rename = fields(structs.fuse_rename_in, { newdir: b.nodeid });
	expect(await errorOf(fuse.FUSE_RENAME, a.nodeid, rename, names("file", "moved"))).toBe(EXDEV);
	const file = await guest.lookup(a.nodeid, "file");
	const link = fields(structs.fuse_link_in, { oldnodeid: file.nodeid });
	expect(await errorOf(fuse.FUSE_LINK, b.nodeid, link, names("linked"))).toBe(EXDEV);
	expect((await guest.getattr(a.nodeid)).ino).not.toBe((await guest.getattr(b.nodeid)).ino);
});

test("a directory comes while the tree is mounted, and goes with all that the guest has of it", async () => {
	mkdirSync(join(folder, "late"));
	tree.add("late", await HostDirectory.open(join(folder, "late")));
	const late = await guest.lookup(ROOT, "late");
	const { nodeid, fh } = await guest.create(late.nodeid, "open");
	tree.remove("late");
	expect(await errorOf(fuse.FUSE_LOOKUP, ROOT, names("late"))).toBe(constants.errno.ENOENT);
	expect(await errorOf(fuse.FUSE_LOOKUP, late.nodeid, names("open"))).toBe(ESTALE);
	const read = fields(structs.fuse_read_in, { fh, size: 10 });
	expect(await errorOf(fuse.FUSE_READ, nodeid, read)).toBe(ESTALE);
	await guest.release(nodeid, fh);
	await guest.forget(late.nodeid, 1);
	/* The others go on. */
	const a = await guest.lookup(ROOT, "a");
	await guest.mkdir(a.nodeid, "made");
	expect(existsSync(join(folder, "a/made"))).toBe(true);
});

test("a guest goes on in another tree, with what is still in it", async () => {
	const nodes = new Map<string, number>();
	const files = new Map<string, number>();
	for (const name of ["a", "b"]) {
		const { nodeid } = await guest.lookup(ROOT, name);
		const file = await guest.lookup(nodeid, "file");
		nodes.set(name, file.nodeid);
		files.set(name, (await guest.open(file.nodeid)).fh);
	}
	const root = await guest.opendir(ROOT);
	const { driver } = guest;
	await driver.transport.quiesce();
	const state = structuredClone(driver.transport.save());
	await device.close();
	tree = new HostTree();
	device = new FsDevice("tree", tree, { cache: "none" });
	driver.device = device;
	driver.transport = driver.transportFor(device);
	driver.transport.restore(state);
	/* Directories may come before the guest goes on. */
	tree.add("c", await HostDirectory.open(join(folder, "b")));
	tree.add("a", await HostDirectory.open(join(folder, "a")));
	driver.transport.resume();
	expect(`${await guest.read(nodes.get("a")!, files.get("a")!, 0, 10)}`).toBe("a");
	expect(await errorOf(fuse.FUSE_GETATTR, nodes.get("b")!, fields(structs.fuse_getattr_in, {}))).toBe(ESTALE);
	expect((await guest.readdirAt(ROOT, root, 0n)).map(([name]) => name)).toEqual([".", "..", "c", "a"]);
});
