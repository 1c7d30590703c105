/*
 * FsDevice over a file system in memory, as a driver sees it.
 */
import { constants } from "node:os";
import { expect, test } from "vitest";
import type { FileSystem } from "../../../src/backends/contract.ts";
import { MemoryFileSystem } from "../../../src/backends/memory-file-system.ts";
import { ErrnoError } from "../../../src/base/errno-error.ts";
import { setLogLevel } from "../../../src/base/log.ts";
import * as fuse from "../../../src/virtio/fs/constants.ts";
import { FsDevice } from "../../../src/virtio/fs/device.ts";
import * as structs from "../../../src/virtio/fs/structs.ts";
import { deviceSuite } from "../device-suite.ts";
import { entryOf, FuseDriver, fields, names } from "./fuse-driver.ts";

const { errno } = constants;
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const ROOT = fuse.FUSE_ROOT_ID;

setLogLevel("error");

async function mounted(fileSystem: FileSystem = new MemoryFileSystem()) {
	return await FuseDriver.mount(new FsDevice("share", fileSystem));
}

test("FsDevice shows its tag and one request queue in the config space", () => {
	const { config } = new FsDevice("home", new MemoryFileSystem());
	expect(Buffer.from(config.subarray(0, 36)).toString()).toBe(`home${"\0".repeat(32)}`);
	expect(new DataView(config.buffer).getUint32(36, true)).toBe(1);
});

test.each(["", "x".repeat(37), "a\0b", "ä".repeat(19)])("FsDevice refuses the tag %j", (tag) => {
	expect(() => new FsDevice(tag, new MemoryFileSystem())).toThrow(expect.objectContaining({ code: "ERR_FS_TAG" }));
});

test("FUSE_INIT agrees on 7.38, on requests of 1 MiB, and on what both sides can do", async () => {
	const { init } = await mounted();
	const out = structs.fuse_init_out;
	expect([init!.getUint32(out.major, true), init!.getUint32(out.minor, true)]).toEqual([7, 38]);
	expect(init!.getUint32(out.max_write, true)).toBe(1 << 20);
	expect(init!.getUint16(out.max_pages, true)).toBe(256);
	expect(init!.getUint32(out.flags, true) & fuse.FUSE_HANDLE_KILLPRIV_V2).not.toBe(0);
	expect(init!.getUint32(out.flags, true) & (1 << 16)).toBe(0); /* writeback cache */
});

test("FUSE_INIT refuses a driver that is too old, and answers a newer major version with ours", async () => {
	const driver = new FuseDriver(new FsDevice("share", new MemoryFileSystem()));
	const old = fields(structs.fuse_init_in, { major: 7, minor: 12 });
	expect((await driver.request(fuse.FUSE_INIT, 0, old)).error).toBe(errno.EPROTO);
	const newer = await driver.ok(fuse.FUSE_INIT, 0, fields(structs.fuse_init_in, { major: 8, minor: 1 }));
	expect(newer.body.getUint32(0, true)).toBe(7);
	expect((await driver.request(fuse.FUSE_LOOKUP, ROOT, names("x"))).error).toBe(errno.EIO);
	await driver.mount();
});

test("a file is made, written, read, and found again", async () => {
	const driver = await mounted();
	driver.uid = 1000;
	driver.gid = 100;
	const made = await driver.create(ROOT, "hello", 0o4755);
	expect(made).toMatchObject({ mode: S_IFREG | 0o4755, uid: 1000, gid: 100, size: 0, nlink: 1 });
	expect(await driver.write(made.nodeid, made.fh, 0, "hello, world")).toBe(12);
	expect((await driver.read(made.nodeid, made.fh, 7, 100)).toString()).toBe("world");
	expect((await driver.read(made.nodeid, made.fh, 12, 100)).length).toBe(0);
	const found = await driver.lookup(ROOT, "hello");
	expect(found).toMatchObject({ nodeid: made.nodeid, size: 12 });
	await driver.write(made.nodeid, made.fh, 0, "J", fuse.FUSE_WRITE_KILL_SUIDGID);
	expect((await driver.getattr(made.nodeid)).mode).toBe(S_IFREG | 0o755);
	await driver.release(made.nodeid, made.fh);
	const gone = fields(structs.fuse_read_in, { fh: made.fh, size: 1 });
	expect((await driver.request(fuse.FUSE_READ, made.nodeid, gone)).error).toBe(errno.EBADF);
});

test("a megabyte goes through one request in each direction", async () => {
	const driver = await mounted();
	const { nodeid, fh } = await driver.create(ROOT, "large");
	const bytes = Buffer.from(Uint8Array.from({ length: 1 << 20 }, (_, i) => i * 7 + (i >> 8)));
	expect(await driver.write(nodeid, fh, 4096, bytes)).toBe(1 << 20);
	expect((await driver.read(nodeid, fh, 4096, 1 << 20)).equals(bytes)).toBe(true);
	expect((await driver.getattr(nodeid)).size).toBe(4096 + (1 << 20));
});

test("directories list what is in them, however small the pieces", async () => {
	const driver = await mounted();
	const all = Array.from({ length: 300 }, (_, i) => `${"n".repeat(i % 40)}${i}`);
	for (const name of all) await driver.mkdir(ROOT, name);
	for (const plus of [false, true]) {
		const found = await driver.readdir(ROOT, 700, plus);
		expect(found.map(({ name }) => name)).toEqual(all);
		expect(new Set(found.map(({ type }) => type))).toEqual(new Set([S_IFDIR >> 12]));
		if (plus) expect(found.every(({ nodeid }) => nodeid > ROOT)).toBe(true);
	}
});

test("a directory that has no room for one entry is an error and not an end", async () => {
	const driver = await mounted();
	await driver.mkdir(ROOT, "x".repeat(200));
	await expect(driver.readdir(ROOT, 64)).rejects.toThrow(`errno ${errno.EINVAL}`);
});

test("names move, are replaced, exchanged and removed", async () => {
	const driver = await mounted();
	const a = await driver.create(ROOT, "a");
	const directory = await driver.mkdir(ROOT, "d");
	const rename = (flags: number, from: string, to: string, newdir = ROOT) =>
		driver.request(fuse.FUSE_RENAME2, ROOT, fields(structs.fuse_rename2_in, { newdir, flags }), names(from, to));
	expect((await rename(0, "a", "b", directory.nodeid)).error).toBe(0);
	expect(await driver.lookup(directory.nodeid, "b")).toMatchObject({ nodeid: a.nodeid });
	await driver.create(ROOT, "a");
	expect((await rename(1, "a", "d")).error).toBe(errno.EEXIST);
	expect((await rename(2, "a", "d")).error).toBe(0);
	expect(await driver.lookup(ROOT, "a")).toMatchObject({ nodeid: directory.nodeid });
	expect((await rename(8, "a", "d")).error).toBe(errno.EINVAL);
	expect((await rename(0, "a", "x", directory.nodeid)).error).toBe(errno.EINVAL);
	expect((await driver.request(fuse.FUSE_RMDIR, ROOT, names("a"))).error).toBe(errno.ENOTEMPTY);
	expect((await driver.request(fuse.FUSE_UNLINK, directory.nodeid, names("b"))).error).toBe(0);
	expect((await driver.request(fuse.FUSE_RMDIR, ROOT, names("a"))).error).toBe(0);
	expect((await driver.request(fuse.FUSE_LOOKUP, ROOT, names("a"))).error).toBe(errno.ENOENT);
});

test("a file that was removed while it is open is read and written as before", async () => {
	const driver = await mounted();
	const { nodeid, fh } = await driver.create(ROOT, "gone");
	await driver.ok(fuse.FUSE_UNLINK, ROOT, names("gone"));
	await driver.write(nodeid, fh, 0, "still here");
	expect((await driver.read(nodeid, fh, 0, 10)).toString()).toBe("still here");
	expect(await driver.getattr(nodeid)).toMatchObject({ nlink: 0, size: 10 });
});

test("links are told from their targets, and hard links are one node", async () => {
	const driver = await mounted();
	const link = await driver.symlink(ROOT, "link", "../../etc/passwd");
	const target = await driver.ok(fuse.FUSE_READLINK, link.nodeid);
	expect(Buffer.from(target.bytes).toString()).toBe("../../etc/passwd");
	const file = await driver.create(ROOT, "file");
	const oldnodeid = file.nodeid;
	const second = await driver.ok(fuse.FUSE_LINK, ROOT, fields(structs.fuse_link_in, { oldnodeid }), names("second"));
	expect(entryOf(second)).toMatchObject({ nodeid: file.nodeid, nlink: 2 });
});

test("attributes are set one by one", async () => {
	const driver = await mounted();
	const { nodeid } = await driver.create(ROOT, "file");
	const { FATTR_MODE, FATTR_UID, FATTR_SIZE, FATTR_MTIME } = fuse;
	const times = { mtime: 1_000_000_000, mtimensec: 123_456_789 };
	expect(await driver.setattr(nodeid, FATTR_MODE | FATTR_MTIME, { mode: 0o600, ...times, uid: 5 })).toMatchObject({
		...{ mode: S_IFREG | 0o600, uid: 0 },
		...times,
	});
	expect(await driver.setattr(nodeid, FATTR_UID | FATTR_SIZE, { uid: 5, size: 10 })).toMatchObject({
		uid: 5,
		size: 10,
	});
});

test("extended attributes come back, and their sizes first", async () => {
	const driver = await mounted();
	const { nodeid } = await driver.create(ROOT, "file");
	const set = fields(structs.fuse_setxattr_in, { size: 5 }, 8);
	await driver.ok(fuse.FUSE_SETXATTR, nodeid, set, names("user.colour"), Buffer.from("green"));
	const get = (size: number, name: string) =>
		driver.request(fuse.FUSE_GETXATTR, nodeid, fields(structs.fuse_getxattr_in, { size }), names(name));
	expect((await get(0, "user.colour")).body.getUint32(0, true)).toBe(5);
	expect(Buffer.from((await get(64, "user.colour")).bytes).toString()).toBe("green");
	expect((await get(4, "user.colour")).error).toBe(errno.ERANGE);
	expect((await get(64, "user.none")).error).toBe(errno.ENODATA);
	const list = await driver.ok(fuse.FUSE_LISTXATTR, nodeid, fields(structs.fuse_getxattr_in, { size: 100 }));
	expect(Buffer.from(list.bytes).toString()).toBe("user.colour\0");
});

test("a name that is no UTF-8 is the same name when it comes back", async () => {
	const driver = await mounted();
	const name = Uint8Array.of(0x66, 0xff, 0x80, 0xc3);
	const made = await driver.ok(fuse.FUSE_MKDIR, ROOT, fields(structs.fuse_mkdir_in, { mode: 0o755 }), names(name));
	expect(await driver.lookup(ROOT, name)).toMatchObject({ nodeid: entryOf(made).nodeid });
	expect((await driver.request(fuse.FUSE_LOOKUP, ROOT, names(name.subarray(0, 3)))).error).toBe(errno.ENOENT);
});

test.each(["..", ".", "a/b", "/", ""])("the name %j is refused", async (name) => {
	const driver = await mounted();
	expect((await driver.request(fuse.FUSE_LOOKUP, ROOT, names(name))).error).toBe(errno.EINVAL);
	const mkdir = fields(structs.fuse_mkdir_in, { mode: 0o755 });
	expect((await driver.request(fuse.FUSE_MKDIR, ROOT, mkdir, names(name))).error).toBe(errno.EINVAL);
	const rename = fields(structs.fuse_rename_in, { newdir: ROOT });
	expect((await driver.request(fuse.FUSE_RENAME, ROOT, rename, names("a", name))).error).toBe(errno.EINVAL);
});

test("a name of more than 255 bytes is too long, one without its NUL no name", async () => {
	const driver = await mounted();
	expect((await driver.request(fuse.FUSE_LOOKUP, ROOT, names("x".repeat(256)))).error).toBe(errno.ENAMETOOLONG);
	expect((await driver.request(fuse.FUSE_LOOKUP, ROOT, Buffer.from("abc"))).error).toBe(errno.EINVAL);
	expect((await driver.request(fuse.FUSE_LOOKUP, ROOT)).error).toBe(errno.EINVAL);
});

test("offsets and lengths beyond every file are refused", async () => {
	const driver = await mounted();
	const { nodeid, fh } = await driver.create(ROOT, "file");
	const read = fields(structs.fuse_read_in, { fh, size: 8 });
	new DataView(read.buffer).setBigUint64(structs.fuse_read_in.offset, 0xffff_ffff_ffff_ffffn, true);
	expect((await driver.request(fuse.FUSE_READ, nodeid, read)).error).toBe(errno.EINVAL);
	const write = fields(structs.fuse_write_in, { fh, size: 99 });
	expect((await driver.request(fuse.FUSE_WRITE, nodeid, write, Buffer.from("abc"))).error).toBe(errno.EINVAL);
	const far = fields(structs.fuse_write_in, { fh, size: 3, offset: 2 ** 52 });
	expect((await driver.request(fuse.FUSE_WRITE, nodeid, far, Buffer.from("abc"))).error).toBe(errno.EFBIG);
});

test("nodes that the guest does not hold, and files that are not open, are errors", async () => {
	const driver = await mounted();
	const get = fields(structs.fuse_getattr_in, {});
	for (const nodeid of [0, 77, 2 ** 40]) {
		expect((await driver.request(fuse.FUSE_GETATTR, nodeid, get)).error).toBe(errno.ESTALE);
	}
	const directory = await driver.ok(fuse.FUSE_OPENDIR, ROOT, fields(structs.fuse_open_in, {}));
	const fh = directory.body.getUint32(0, true);
	const read = fields(structs.fuse_read_in, { fh, size: 8 });
	expect((await driver.request(fuse.FUSE_READ, ROOT, read)).error).toBe(errno.EBADF);
	expect((await driver.request(999, ROOT)).error).toBe(errno.ENOSYS);
});

test("a node is forgotten with its last lookup, and not before", async () => {
	const forgotten: unknown[] = [];
	class Forgetting extends MemoryFileSystem {
		override forget(node: never): void {
			forgotten.push(node);
		}
	}
	const fileSystem = new Forgetting();
	fileSystem.addFile("file", "text");
	const driver = await mounted(fileSystem);
	const { nodeid } = await driver.lookup(ROOT, "file");
	await driver.lookup(ROOT, "file");
	await driver.forget(nodeid, 1);
	expect(forgotten).toEqual([]);
	const { fh } = await driver.open(nodeid);
	await driver.forget(nodeid, 1);
	/* It is open. */
	expect(forgotten).toEqual([]);
	expect((await driver.read(nodeid, fh, 0, 4)).toString()).toBe("text");
	await driver.release(nodeid, fh);
	expect(forgotten).toEqual([fileSystem.root.child("file")]);
	await driver.forget(nodeid, 1);
	await driver.forget(ROOT, 1000);
	expect(forgotten).toHaveLength(1);
	await driver.getattr(ROOT);
});

test("many nodes are forgotten at once", async () => {
	const driver = await mounted();
	const ids = [];
	for (let i = 0; i < 20; i++) ids.push((await driver.mkdir(ROOT, `${i}`)).nodeid);
	const list = ids.map((nodeid) => fields(structs.fuse_forget_one, { nodeid, nlookup: 1 }));
	const count = fields(structs.fuse_batch_forget_in, { count: 20 });
	const queue = driver.driver.queue(0);
	const bytes = driver.encode(fuse.FUSE_BATCH_FORGET, 0, count, ...list);
	await queue.request([{ write: false, length: bytes.length, data: bytes }]);
	for (const nodeid of ids) {
		const answer = await driver.request(fuse.FUSE_GETATTR, nodeid, fields(structs.fuse_getattr_in, {}));
		expect(answer.error).toBe(errno.ESTALE);
	}
});

test("a read-only file system refuses all changes", async () => {
	const fileSystem = new MemoryFileSystem({ readOnly: true });
	fileSystem.addFile("file", "text");
	const driver = await mounted(fileSystem);
	const { nodeid } = await driver.lookup(ROOT, "file");
	const refused = [
		await driver.request(fuse.FUSE_MKDIR, ROOT, fields(structs.fuse_mkdir_in, {}), names("d")),
		await driver.request(fuse.FUSE_CREATE, ROOT, fields(structs.fuse_create_in, { flags: 2 }), names("f")),
		await driver.request(fuse.FUSE_OPEN, nodeid, fields(structs.fuse_open_in, { flags: 1 })),
		await driver.request(fuse.FUSE_OPEN, nodeid, fields(structs.fuse_open_in, { flags: 0o1000 })),
		await driver.request(fuse.FUSE_UNLINK, ROOT, names("file")),
		await driver.request(fuse.FUSE_SETATTR, nodeid, fields(structs.fuse_setattr_in, { valid: 1 })),
	];
	expect(refused.map(({ error }) => error)).toEqual(Array(6).fill(errno.EROFS));
	const { fh } = await driver.open(nodeid);
	expect((await driver.read(nodeid, fh, 0, 9)).toString()).toBe("text");
});

test("a file system in memory that is full says so, and has room again for what is gone", async () => {
	const driver = await mounted(new MemoryFileSystem({ maxBytes: 1 << 20 }));
	const { nodeid, fh } = await driver.create(ROOT, "large");
	await driver.write(nodeid, fh, 0, Buffer.alloc(900 << 10));
	const other = await driver.create(ROOT, "other");
	await expect(driver.write(other.nodeid, other.fh, 0, Buffer.alloc(900 << 10))).rejects.toThrow(
		`errno ${errno.ENOSPC}`,
	);
	await driver.ok(fuse.FUSE_UNLINK, ROOT, names("large"));
	await driver.release(nodeid, fh);
	await driver.forget(nodeid, 1);
	expect(await driver.write(other.nodeid, other.fh, 0, Buffer.alloc(900 << 10))).toBe(900 << 10);
});

test("what a file system throws is the guest's errno: its own, one of Node's, or EIO", async () => {
	const thrown: unknown[] = [
		ErrnoError.of("EDQUOT"),
		Object.assign(new Error("no"), { code: "EXDEV" }),
		new Error("bug"),
	];
	class Failing extends MemoryFileSystem {
		override statfs(): never {
			throw thrown.shift();
		}
		override lookup(): never {
			throw ErrnoError.of("ELOOP");
		}
	}
	setLogLevel("error");
	const driver = await mounted(new Failing());
	expect((await driver.request(fuse.FUSE_LOOKUP, ROOT, names("x"))).error).toBe(errno.ELOOP);
	const errors = [];
	for (let i = 0; i < 3; i++) errors.push((await driver.request(fuse.FUSE_STATFS, ROOT)).error);
	expect(errors).toEqual([errno.EDQUOT, errno.EXDEV, errno.EIO]);
});

test("the cache modes differ in what the guest may keep", async () => {
	const seen: Record<string, unknown> = {};
	for (const cache of ["none", "auto", "always"] as const) {
		const fileSystem = new MemoryFileSystem();
		const file = fileSystem.addFile("file", "text");
		file.ctime = { seconds: 1, nanoseconds: 0 };
		const driver = await FuseDriver.mount(new FsDevice("share", fileSystem, { cache }));
		const { nodeid } = await driver.lookup(ROOT, "file");
		const { body } = await driver.ok(fuse.FUSE_LOOKUP, ROOT, names("file"));
		const flags = [(await driver.open(nodeid)).flags, (await driver.open(nodeid)).flags];
		file.ctime = { seconds: 2, nanoseconds: 0 };
		flags.push((await driver.open(nodeid)).flags);
		seen[cache] = [body.getUint32(structs.fuse_entry_out.entry_valid, true), ...flags];
	}
	const { FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, FOPEN_PARALLEL_DIRECT_WRITES } = fuse;
	const direct = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
	expect(seen).toEqual({
		none: [0, direct, direct, direct],
		/* The second time nothing has changed. */
		auto: [1, 0, FOPEN_KEEP_CACHE, 0],
		always: [86_400, FOPEN_KEEP_CACHE, FOPEN_KEEP_CACHE, FOPEN_KEEP_CACHE],
	});
});

test("with the cache always, the guest may keep that a name is missing", async () => {
	const driver = await FuseDriver.mount(new FsDevice("share", new MemoryFileSystem(), { cache: "always" }));
	const { body, error } = await driver.request(fuse.FUSE_LOOKUP, ROOT, names("missing"));
	expect([error, body.getUint32(structs.fuse_entry_out.nodeid, true)]).toEqual([0, 0]);
	expect(body.getUint32(structs.fuse_entry_out.entry_valid, true)).toBe(86_400);
});

test("a request without room for its answer does no harm", async () => {
	const driver = await mounted();
	const queue = driver.driver.queue(1);
	const bytes = driver.encode(fuse.FUSE_GETATTR, ROOT, fields(structs.fuse_getattr_in, {}));
	const data = { write: false, length: bytes.length, data: bytes };
	expect((await queue.request([data])).written).toBe(0);
	expect((await queue.request([data, { write: true, length: 15 }])).written).toBe(0);
	const answer = driver.decode(await queue.request([data, { write: true, length: 20 }]));
	expect(answer.error).toBe(errno.EOVERFLOW);
	const short = bytes.slice();
	short[0] = 255;
	expect(
		driver.decode(
			await queue.request([
				{ ...data, data: short },
				{ write: true, length: 16 },
			]),
		).error,
	).toBe(errno.EINVAL);
	expect(driver.driver.needsReset).toBe(false);
});

deviceSuite({
	name: "FsDevice",
	make: () => new FsDevice("share", new MemoryFileSystem({ maxBytes: 1 << 20 })),
	eager: [0, 1],
	fill: (random, bytes) => {
		if (bytes.length < 48) return;
		const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
		view.setUint32(0, random.below(3) === 0 ? random.below(200) : bytes.length, true);
		view.setUint32(4, random.below(2) === 0 ? fuse.FUSE_INIT : random.below(52), true);
		view.setUint32(16, random.below(4), true);
		view.setUint32(20, 0, true);
		if (view.getUint32(4, true) === fuse.FUSE_INIT) view.setUint32(40, 7, true);
		if (view.getUint32(4, true) === fuse.FUSE_INIT) view.setUint32(44, 38, true);
	},
});
