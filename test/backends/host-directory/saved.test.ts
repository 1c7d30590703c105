/*
 * A shared directory whose guest is saved and goes on in another machine: what it finds again, and what it must not.
 */
import {
	appendFileSync,
	linkSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { HostDirectory, type HostDirectoryOptions } from "../../../src/backends/host-directory/host-directory.ts";
import { setLogLevel } from "../../../src/base/log.ts";
import type { SavedState, StateObject } from "../../../src/base/state.ts";
import * as fuse from "../../../src/virtio/fs/constants.ts";
import { FsDevice } from "../../../src/virtio/fs/device.ts";
import * as structs from "../../../src/virtio/fs/structs.ts";
import { fields } from "../../virtio/fs/fuse-driver.ts";
import { Shared } from "./shared.ts";

const { errno } = constants;
const ROOT = fuse.FUSE_ROOT_ID;
const getattr = fields(structs.fuse_getattr_in, {});
const O_APPEND_RDWR = 0o2002;

setLogLevel("error");

/** Saves the guest of a share, lets the host do something, and lets the guest go on in a new device. */
async function moved(
	shared: Shared,
	meanwhile: () => void = () => undefined,
	options: HostDirectoryOptions = {},
	change: (state: SavedState) => SavedState = (state) => state,
): Promise<AsyncDisposable> {
	const { driver } = shared.guest;
	await driver.transport.quiesce();
	const state = structuredClone(driver.transport.save());
	await shared.device.close();
	meanwhile();
	const device = new FsDevice("share", await HostDirectory.open(shared.path, options));
	driver.device = device;
	driver.transport = driver.transportFor(device);
	driver.transport.restore(change(state));
	driver.transport.resume();
	return { [Symbol.asyncDispose]: () => device.close() };
}

test("a guest goes on with its files, also those that were renamed, linked, appended to or have no UTF-8 name", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	mkdirSync(join(path, "directory/deep"), { recursive: true });
	writeFileSync(join(path, "directory/deep/file"), "deep");
	writeFileSync(Buffer.concat([Buffer.from(join(path, "odd-")), Buffer.of(0xff)]), "odd");
	writeFileSync(join(path, "not (deleted)"), "there");
	symlinkSync("directory", join(path, "link"));
	const directory = await guest.lookup(ROOT, "directory");
	const deep = await guest.lookup(directory.nodeid, "deep");
	const file = await guest.lookup(deep.nodeid, "file");
	const link = await guest.lookup(ROOT, "link");
	const odd = await guest.lookup(ROOT, Buffer.concat([Buffer.from("odd-"), Buffer.of(0xff)]));
	const there = await guest.lookup(ROOT, "not (deleted)");
	const { fh } = await guest.open(file.nodeid, O_APPEND_RDWR);
	const log = await guest.create(ROOT, "log");
	await guest.write(log.nodeid, log.fh, 0, "before ");
	renameSync(join(path, "directory"), join(path, "renamed"));
	await using _next = await moved(shared, () => appendFileSync(join(path, "log"), "host "));
	expect((await guest.read(file.nodeid, fh, 0, 64)).toString()).toBe("deep");
	await guest.write(file.nodeid, fh, 4, "er");
	expect(readFileSync(join(path, "renamed/deep/file"), "utf8")).toBe("deeper");
	await guest.write(log.nodeid, log.fh, 12, "after");
	expect(readFileSync(join(path, "log"), "utf8")).toBe("before host after");
	expect((await guest.getattr(odd.nodeid)).size).toBe(3);
	expect((await guest.getattr(there.nodeid)).size).toBe(5);
	const target = await guest.ok(fuse.FUSE_READLINK, link.nodeid);
	expect(Buffer.from(target.bytes).toString()).toBe("directory");
	expect((await guest.lookup(deep.nodeid, "file")).nodeid).toBe(file.nodeid);
	await guest.mkdir(deep.nodeid, "new");
	expect(readdirSync(join(path, "renamed/deep"))).toEqual(["file", "new"]);
});

test("a guest that reads a directory finds the rest of it", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	for (let i = 0; i < 100; i++) writeFileSync(join(path, `file-${i}`), "");
	const fh = await guest.opendir(ROOT);
	const first = await guest.readdirAt(ROOT, fh, 0n);
	const found = first.map(([name]) => name);
	await using _next = await moved(shared);
	for (let position = first.at(-1)![1]; ; ) {
		const entries = await guest.readdirAt(ROOT, fh, position);
		if (entries.length === 0) break;
		found.push(...entries.map(([name]) => name));
		position = entries.at(-1)![1];
	}
	expect(found.sort()).toEqual([".", "..", ...readdirSync(path)].sort());
});

test("what was removed, replaced or moved out meanwhile is ESTALE, and nothing else is opened in its place", async () => {
	await using shared = await Shared.make();
	const { guest, path, outside } = shared;
	mkdirSync(join(path, "directory"));
	mkdirSync(join(path, "plain"));
	for (const name of ["removed", "replaced", "linked", "moved", "kept", "directory/inner"])
		writeFileSync(join(path, name), name);
	const ids = new Map<string, number>();
	for (const name of ["removed", "replaced", "linked", "moved", "kept", "directory", "plain"])
		ids.set(name, (await guest.lookup(ROOT, name)).nodeid);
	ids.set("inner", (await guest.lookup(ids.get("directory")!, "inner")).nodeid);
	const { fh } = await guest.open(ids.get("replaced")!, 2);
	await using _next = await moved(shared, () => {
		writeFileSync(join(outside, "secret"), "secret");
		mkdirSync(join(outside, "secrets"));
		writeFileSync(join(outside, "secrets/inner"), "secret");
		rmSync(join(path, "removed"));
		/* ext4 and tmpfs may give the new one the same inode number. */
		rmSync(join(path, "replaced"));
		writeFileSync(join(path, "replaced"), "another");
		rmSync(join(path, "linked"));
		symlinkSync("../secret", join(path, "linked"));
		renameSync(join(path, "moved"), join(outside, "moved"));
		renameSync(join(path, "directory"), join(path, "away"));
		symlinkSync("../secrets", join(path, "directory"));
		rmSync(join(path, "plain"), { recursive: true });
		linkSync(join(path, "kept"), join(path, "plain"));
	});
	for (const [name, id] of ids) {
		const { error } = await guest.request(fuse.FUSE_GETATTR, id, getattr);
		expect([name, error]).toEqual([name, name === "kept" ? 0 : errno.ESTALE]);
	}
	const read = fields(structs.fuse_read_in, { fh, size: 64 });
	expect((await guest.request(fuse.FUSE_READ, ids.get("replaced")!, read)).error).toBe(errno.ESTALE);
	/* By its name the guest finds the new one. */
	const replaced = await guest.lookup(ROOT, "replaced");
	const again = await guest.open(replaced.nodeid);
	expect((await guest.read(replaced.nodeid, again.fh, 0, 64)).toString()).toBe("another");
});

test("a guest that has a deleted file open cannot be saved, and the message has its path", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	const { nodeid, fh } = await guest.create(ROOT, "scratch");
	rmSync(join(path, "scratch"));
	await guest.driver.transport.quiesce();
	expect(() => guest.driver.transport.save()).toThrow(
		`Cannot save virtio-fs0: its guest has deleted files open: ${path}/scratch`,
	);
	guest.driver.transport.resume();
	await guest.release(nodeid, fh);
});

test("a directory that is read-only now gives no file back for writing", async () => {
	await using shared = await Shared.make();
	const { guest } = shared;
	const { nodeid, fh } = await guest.create(ROOT, "file");
	const { fh: reading } = await guest.open(nodeid);
	await using _next = await moved(shared, undefined, { readOnly: true });
	const write = fields(structs.fuse_write_in, { fh, size: 1 });
	expect((await guest.request(fuse.FUSE_WRITE, nodeid, write, Buffer.of(1))).error).toBe(errno.EROFS);
	const read = fields(structs.fuse_read_in, { fh, size: 64 });
	expect((await guest.request(fuse.FUSE_READ, nodeid, read)).error).toBe(errno.ESTALE);
	expect(await guest.read(nodeid, reading, 0, 64)).toHaveLength(0);
});

test.each(["../outside", "/etc/passwd", "a//b", "a/../../outside", "directory/.."])(
	"a forged state with the path %j is refused",
	async (forged) => {
		await using shared = await Shared.make();
		const { guest, path, outside } = shared;
		writeFileSync(join(outside, "outside"), "secret");
		mkdirSync(join(path, "directory"));
		await guest.lookup(ROOT, "directory");
		const forge = (state: SavedState): SavedState => {
			const device = state.device as StateObject & { nodes: { node: StateObject }[] };
			const nodes = device.nodes.map((entry) => ({ ...entry, node: { ...entry.node, path: forged } }));
			return { ...state, device: { ...device, nodes } };
		};
		await expect(moved(shared, undefined, {}, forge)).rejects.toMatchObject({ code: "ERR_STATE_FORMAT" });
		await guest.driver.device.close();
	},
);
