/*
 * A directory of the host as a guest sees it through virtio-fs: what programs count on.
 */
import { execFileSync } from "node:child_process";
import {
	chmodSync,
	existsSync,
	mkdirSync,
	readFileSync,
	readlinkSync,
	statSync,
	symlinkSync,
	truncateSync,
	writeFileSync,
} from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { HostDirectory } from "../../../src/backends/host-directory/host-directory.ts";
import { setLogLevel } from "../../../src/base/log.ts";
import { raiseDescriptorLimit } from "../../../src/host/descriptor-budget.ts";
import * as fuse from "../../../src/virtio/fs/constants.ts";
import { FsDevice } from "../../../src/virtio/fs/device.ts";
import * as structs from "../../../src/virtio/fs/structs.ts";
import { entryOf, FuseDriver, fields, names } from "../../virtio/fs/fuse-driver.ts";
import { Shared } from "./shared.ts";

const { errno } = constants;
const ROOT = fuse.FUSE_ROOT_ID;
const S_IFMT = 0o170000;
const O_RDWR = 2;
const isRoot = process.getuid!() === 0;

setLogLevel("error");

test.each([{ forceThreads: false }, { forceThreads: true }])(
	"a file that a guest writes is the host's, %o",
	async (options) => {
		await using shared = await Shared.make(options);
		const { guest, path } = shared;
		const { nodeid, fh } = await guest.create(ROOT, "file", 0o640);
		const bytes = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, i) => i * 31));
		expect(await guest.write(nodeid, fh, 5, bytes)).toBe(bytes.length);
		expect(readFileSync(join(path, "file")).subarray(5).equals(bytes)).toBe(true);
		expect(statSync(join(path, "file")).mode & 0o7777).toBe(0o640);
		expect((await guest.read(nodeid, fh, 5, 1 << 20)).equals(bytes)).toBe(true);
		await guest.ok(fuse.FUSE_FSYNC, nodeid, fields(structs.fuse_fsync_in, { fh }));
		await guest.release(nodeid, fh);
	},
);

test("what the host writes the guest reads, the end of the file included", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	mkdirSync(join(path, "a/b"), { recursive: true });
	writeFileSync(join(path, "a/b/text"), "from the host");
	const a = await guest.lookup(ROOT, "a");
	const b = await guest.lookup(a.nodeid, "b");
	const file = await guest.lookup(b.nodeid, "text");
	expect(file).toMatchObject({ size: 13, ino: statSync(join(path, "a/b/text")).ino });
	const { fh } = await guest.open(file.nodeid);
	expect((await guest.read(file.nodeid, fh, 5, 4096)).toString()).toBe("the host");
	expect((await guest.read(file.nodeid, fh, 13, 4096)).length).toBe(0);
	truncateSync(join(path, "a/b/text"), 4);
	expect((await guest.read(file.nodeid, fh, 0, 4096)).toString()).toBe("from");
	expect((await guest.getattr(file.nodeid)).size).toBe(4);
});

test("a file is replaced by a rename, removed while it is open, and told from its successor", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	const old = await guest.create(ROOT, "file");
	await guest.write(old.nodeid, old.fh, 0, "old");
	const fresh = await guest.create(ROOT, "file.new");
	await guest.write(fresh.nodeid, fresh.fh, 0, "new");
	await guest.ok(fuse.FUSE_RENAME, ROOT, fields(structs.fuse_rename_in, { newdir: ROOT }), names("file.new", "file"));
	expect(readFileSync(join(path, "file"), "utf8")).toBe("new");
	expect((await guest.lookup(ROOT, "file")).nodeid).toBe(fresh.nodeid);
	expect((await guest.read(old.nodeid, old.fh, 0, 9)).toString()).toBe("old");
	expect((await guest.getattr(old.nodeid)).nlink).toBe(0);
	await guest.write(old.nodeid, old.fh, 3, "er");
	expect((await guest.read(old.nodeid, old.fh, 0, 9)).toString()).toBe("older");
});

test("hard links are one node, and symbolic links are text", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	const file = await guest.create(ROOT, "file");
	const oldnodeid = file.nodeid;
	const link = await guest.ok(fuse.FUSE_LINK, ROOT, fields(structs.fuse_link_in, { oldnodeid }), names("hard"));
	expect(entryOf(link)).toMatchObject({ nodeid: oldnodeid, nlink: 2 });
	expect(statSync(join(path, "hard")).ino).toBe(statSync(join(path, "file")).ino);
	const soft = await guest.symlink(ROOT, "soft", "no/such/../file");
	expect(readlinkSync(join(path, "soft"))).toBe("no/such/../file");
	expect(Buffer.from((await guest.ok(fuse.FUSE_READLINK, soft.nodeid)).bytes).toString()).toBe("no/such/../file");
	expect((await guest.request(fuse.FUSE_READLINK, oldnodeid)).error).toBe(errno.EINVAL);
	const again = await guest.ok(
		fuse.FUSE_LINK,
		ROOT,
		fields(structs.fuse_link_in, { oldnodeid: soft.nodeid }),
		names("s2"),
	);
	expect(entryOf(again).nodeid).toBe(soft.nodeid);
});

test("a file without a name gets one later", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	const bytes = fields(structs.fuse_create_in, { flags: O_RDWR, mode: 0o600 });
	const answer = await guest.ok(fuse.FUSE_TMPFILE, ROOT, bytes);
	const { nodeid } = entryOf(answer);
	const fh = answer.body.getUint32(structs.fuse_entry_out.sizeof, true);
	await guest.write(nodeid, fh, 0, "complete");
	expect((await guest.readdir(ROOT)).length).toBe(0);
	await guest.ok(fuse.FUSE_LINK, ROOT, fields(structs.fuse_link_in, { oldnodeid: nodeid }), names("now"));
	expect(readFileSync(join(path, "now"), "utf8")).toBe("complete");
});

test("sparse files have holes, which are found, punched and copied", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	const { nodeid, fh } = await guest.create(ROOT, "sparse");
	await guest.write(nodeid, fh, 1 << 20, Buffer.alloc(65_536, 1));
	const seek = async (offset: number, whence: number) => {
		const answer = await guest.request(fuse.FUSE_LSEEK, nodeid, fields(structs.fuse_lseek_in, { fh, offset, whence }));
		return answer.error === 0 ? answer.body.getUint32(0, true) : -answer.error;
	};
	expect([await seek(0, 3), await seek(0, 4), await seek(1 << 20, 4)]).toEqual([1 << 20, 0, (1 << 20) + 65_536]);
	expect(await seek(2 << 20, 3)).toBe(-errno.ENXIO);
	expect(await seek(0, 0)).toBe(-errno.EINVAL);
	const punch = fields(structs.fuse_fallocate_in, { fh, offset: 1 << 20, length: 4096, mode: 3 });
	await guest.ok(fuse.FUSE_FALLOCATE, nodeid, punch);
	expect(await seek(0, 3)).toBe((1 << 20) + 4096);
	const copy = await guest.create(ROOT, "copy");
	const range = {
		fh_in: fh,
		off_in: (1 << 20) + 4096,
		nodeid_out: copy.nodeid,
		fh_out: copy.fh,
		off_out: 10,
		len: 1000,
	};
	const copied = await guest.ok(fuse.FUSE_COPY_FILE_RANGE, nodeid, fields(structs.fuse_copy_file_range_in, range));
	expect(copied.body.getUint32(0, true)).toBe(1000);
	expect(readFileSync(join(path, "copy")).equals(Buffer.concat([Buffer.alloc(10), Buffer.alloc(1000, 1)]))).toBe(true);
});

test("attributes are set on files, directories and links", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	const { nodeid } = await guest.create(ROOT, "file");
	const link = await guest.symlink(ROOT, "link", "file");
	const times = { mtime: 1_000_000_000, mtimensec: 123_456_000, atime: 5, atimensec: 0 };
	const both = fuse.FATTR_MTIME | fuse.FATTR_ATIME;
	expect(await guest.setattr(link.nodeid, both, times)).toMatchObject({ mtime: 1_000_000_000, mtimensec: 123_456_000 });
	expect(statSync(join(path, "file")).mtimeMs).toBeGreaterThan(1_500_000_000_000);
	expect((await guest.setattr(nodeid, fuse.FATTR_MODE, { mode: 0o4711 })).mode & 0o7777).toBe(0o4711);
	expect((await guest.setattr(nodeid, fuse.FATTR_SIZE, { size: 77 })).size).toBe(77);
	const wrong = fields(structs.fuse_setattr_in, { valid: fuse.FATTR_SIZE, size: 1 });
	expect((await guest.request(fuse.FUSE_SETATTR, link.nodeid, wrong)).error).toBe(errno.EINVAL);
	expect((await guest.request(fuse.FUSE_SETATTR, ROOT, wrong)).error).toBe(errno.EISDIR);
});

test("a writer without CAP_FSETID takes setuid away", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	const { nodeid, fh } = await guest.create(ROOT, "program");
	await guest.write(nodeid, fh, 0, "x");
	chmodSync(join(path, "program"), 0o6755);
	await guest.write(nodeid, fh, 0, "y", fuse.FUSE_WRITE_KILL_SUIDGID);
	expect(statSync(join(path, "program")).mode & 0o7777).toBe(0o755);
});

test("extended attributes are the user's; those of the host's security modules stay out of sight", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	const { nodeid } = await guest.create(ROOT, "file");
	const set = (name: string, value: string) =>
		guest.request(
			fuse.FUSE_SETXATTR,
			nodeid,
			fields(structs.fuse_setxattr_in, { size: value.length }, 8),
			names(name),
			Buffer.from(value),
		);
	const get = (name: string) =>
		guest.request(fuse.FUSE_GETXATTR, nodeid, fields(structs.fuse_getxattr_in, { size: 100 }), names(name));
	expect((await set("user.colour", "green")).error).toBe(0);
	expect(Buffer.from((await get("user.colour")).bytes).toString()).toBe("green");
	const seen = ["-c", "import os,sys; print(os.getxattr(sys.argv[1], 'user.colour').decode())", join(path, "file")];
	expect(execFileSync("python3", seen, { encoding: "utf8" })).toBe("green\n");
	expect((await set("security.selinux", "label")).error).toBe(errno.EOPNOTSUPP);
	expect((await get("system.posix_acl_access")).error).toBe(errno.EOPNOTSUPP);
	const list = await guest.ok(fuse.FUSE_LISTXATTR, nodeid, fields(structs.fuse_getxattr_in, { size: 1000 }));
	expect(Buffer.from(list.bytes).toString()).toBe("user.colour\0");
	await guest.ok(fuse.FUSE_REMOVEXATTR, nodeid, names("user.colour"));
	expect((await get("user.colour")).error).toBe(errno.ENODATA);
	expect((await get("security.capability")).error).toBe(errno.ENODATA);
});

test.runIf(isRoot)("a program's capabilities are the guest's to set and to see", async () => {
	await using shared = await Shared.make();
	const { guest } = shared;
	const { nodeid } = await guest.create(ROOT, "program");
	/* struct vfs_cap_data: revision 2 and one capability that is permitted. */
	const value = Buffer.from("0100000200200000000000000000000000000000", "hex");
	const how = fields(structs.fuse_setxattr_in, { size: value.length }, 8);
	await guest.ok(fuse.FUSE_SETXATTR, nodeid, how, names("security.capability"), value);
	const room = fields(structs.fuse_getxattr_in, { size: 100 });
	const { bytes } = await guest.ok(fuse.FUSE_GETXATTR, nodeid, room, names("security.capability"));
	expect(Buffer.from(bytes).equals(value)).toBe(true);
});

test("a directory of thousands is listed in small pieces, and while it shrinks", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	const all = Array.from({ length: 3000 }, (_, i) => `file-${i}`);
	for (const name of all) writeFileSync(join(path, name), "");
	for (const plus of [false, true]) {
		const found = await guest.readdir(ROOT, 4096, plus);
		expect(found.map(({ name }) => name).sort()).toEqual([...all].sort());
	}
	/* As rm -r does. */
	for (const { name } of await guest.readdir(ROOT, 4096, true)) await guest.ok(fuse.FUSE_UNLINK, ROOT, names(name));
	expect((await guest.readdir(ROOT)).length).toBe(0);
});

test("a hundred thousand files of a directory are listed, and held at once", async () => {
	await using shared = await Shared.make();
	const { guest, path, directory } = shared;
	/* Where not even root may raise its limit, fewer. */
	const count = Math.min(100_000, raiseDescriptorLimit() - 2000);
	for (let i = 0; i < count; i++) writeFileSync(join(path, `${i}`), "");
	/* Each entry of READDIRPLUS is a node that the guest holds from then on. */
	const found = await guest.readdir(ROOT, 1 << 16, true);
	expect(new Set(found.map(({ name }) => name)).size).toBe(count);
	expect(directory.nodeCount).toBe(count + 1);
}, 120_000);

test("names that are no UTF-8 are the host's bytes", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	const name = Buffer.of(0x66, 0xff, 0xc3, 0x28);
	const made = await guest.ok(fuse.FUSE_MKDIR, ROOT, fields(structs.fuse_mkdir_in, { mode: 0o755 }), names(name));
	expect(existsSync(Buffer.concat([Buffer.from(`${path}/`), name]))).toBe(true);
	expect((await guest.lookup(ROOT, name)).nodeid).toBe(entryOf(made).nodeid);
});

test.runIf(isRoot)("what a guest makes belongs to the user who makes it, whatever the host's umask", async () => {
	const before = process.umask(0o077);
	try {
		await using shared = await Shared.make();
		const { guest, path } = shared;
		chmodSync(path, 0o777);
		guest.uid = 1234;
		guest.gid = 4321;
		const made = [
			await guest.create(ROOT, "file", 0o666),
			await guest.mkdir(ROOT, "directory", 0o777),
			await guest.symlink(ROOT, "link", "x"),
			entryOf(await guest.ok(fuse.FUSE_MKNOD, ROOT, fields(structs.fuse_mknod_in, { mode: 0o010666 }), names("fifo"))),
		];
		for (const { uid, gid } of made) expect([uid, gid]).toEqual([1234, 4321]);
		expect(made.map(({ mode }) => mode & 0o777)).toEqual([0o666, 0o777, 0o777, 0o666]);
		/* The next one is root's again. */
		guest.uid = guest.gid = 0;
		expect(await guest.create(ROOT, "root's")).toMatchObject({ uid: 0, gid: 0 });
		expect((await guest.setattr(made[0]!.nodeid, fuse.FATTR_UID, { uid: 99 })).uid).toBe(99);
	} finally {
		process.umask(before);
	}
});

test("a read-only share changes in no way", async () => {
	await using shared = await Shared.make({ readOnly: true });
	const { guest, path } = shared;
	writeFileSync(join(path, "file"), "kept");
	const { nodeid } = await guest.lookup(ROOT, "file");
	const size = fields(structs.fuse_setattr_in, { valid: fuse.FATTR_SIZE });
	const errors = [
		await guest.request(fuse.FUSE_OPEN, nodeid, fields(structs.fuse_open_in, { flags: 2 })),
		await guest.request(fuse.FUSE_SETATTR, nodeid, size),
		await guest.request(fuse.FUSE_SYMLINK, ROOT, names("a", "b")),
		await guest.request(fuse.FUSE_RENAME, ROOT, fields(structs.fuse_rename_in, { newdir: ROOT }), names("file", "f2")),
		await guest.request(fuse.FUSE_REMOVEXATTR, nodeid, names("user.a")),
	].map(({ error }) => error);
	expect(errors).toEqual(Array(5).fill(errno.EROFS));
	const { fh } = await guest.open(nodeid);
	expect((await guest.read(nodeid, fh, 0, 9)).toString()).toBe("kept");
});

test("the guest sees how full the host's file system is, and makes all of it stable", async () => {
	await using shared = await Shared.make();
	const { guest } = shared;
	const { body } = await guest.ok(fuse.FUSE_STATFS, ROOT);
	expect(body.getUint32(structs.fuse_kstatfs.bsize, true)).toBeGreaterThanOrEqual(512);
	await guest.ok(fuse.FUSE_SYNCFS, ROOT, new Uint8Array(8));
});

test("more requests than there are threads and slots are all answered", async () => {
	await using shared = await Shared.make();
	const { guest } = shared;
	const heads = Array.from({ length: 300 }, (_, i) =>
		guest.send(200, fuse.FUSE_MKDIR, ROOT, fields(structs.fuse_mkdir_in, { mode: 0o700 }), names(`d${i}`)),
	);
	for (const head of heads) expect((await guest.answerTo(head)).error).toBe(0);
	expect((await guest.readdir(ROOT)).length).toBe(300);
});

test("what the guest forgets the host lets go of", async () => {
	await using shared = await Shared.make();
	const { guest, path, directory } = shared;
	for (let i = 0; i < 50; i++) writeFileSync(join(path, `${i}`), "");
	const before = directory.nodeCount;
	const found = await guest.readdir(ROOT, 4096, true);
	expect(directory.nodeCount).toBe(before + 50);
	for (const { nodeid } of found) await guest.forget(nodeid, 1);
	expect(directory.nodeCount).toBe(before);
});

test("a single file is alone in its directory, which does not change", async () => {
	await using shared = await Shared.make();
	const { path } = shared;
	writeFileSync(join(path, "file"), "text");
	writeFileSync(join(path, "other"), "not shared");
	symlinkSync("file", join(path, "link"));
	const directory = await HostDirectory.open(join(path, "link"));
	const guest = await FuseDriver.mount(new FsDevice("file", directory, { cache: "none" }));
	try {
		expect((await guest.readdir(ROOT, 4096, true)).map(({ name }) => name)).toEqual(["file"]);
		const { nodeid } = await guest.lookup(ROOT, "file");
		expect((await guest.setattr(nodeid, fuse.FATTR_SIZE, { size: 2 })).size).toBe(2);
		expect(readFileSync(join(path, "file"), "utf8")).toBe("te");
		const rename = fields(structs.fuse_rename_in, { newdir: ROOT });
		const create = fields(structs.fuse_create_in, { flags: O_RDWR, mode: 0o600 });
		const refused = [
			await guest.request(fuse.FUSE_LOOKUP, ROOT, names("other")),
			await guest.request(fuse.FUSE_UNLINK, ROOT, names("file")),
			await guest.request(fuse.FUSE_RENAME, ROOT, rename, names("file", "new")),
			await guest.request(fuse.FUSE_CREATE, ROOT, create, names("other")),
			await guest.request(fuse.FUSE_TMPFILE, ROOT, create),
			await guest.request(fuse.FUSE_SETATTR, ROOT, fields(structs.fuse_setattr_in, { valid: 1 })),
		];
		const { ENOENT, EBUSY, EPERM } = errno;
		expect(refused.map(({ error }) => error)).toEqual([ENOENT, EBUSY, EBUSY, EBUSY, EBUSY, EPERM]);
	} finally {
		await directory.close();
	}
});

test("HostDirectory.open says what it cannot share", async () => {
	await using shared = await Shared.make();
	execFileSync("mkfifo", [join(shared.path, "fifo")]);
	for (const [path, why] of [
		["nowhere", "no such file or directory"],
		["fifo", "not a directory"],
	] as const) {
		const opening = HostDirectory.open(join(shared.path, path));
		await expect(opening).rejects.toMatchObject({ code: "ERR_FS_OPEN", message: expect.stringContaining(why) });
	}
});

test("a node keeps its type, whatever the host puts in its name's place", async () => {
	await using shared = await Shared.make();
	const { guest, path } = shared;
	writeFileSync(join(path, "name"), "file");
	const file = await guest.lookup(ROOT, "name");
	execFileSync("rm", [join(path, "name")]);
	symlinkSync("/etc/hostname", join(path, "name"));
	const link = await guest.lookup(ROOT, "name");
	expect(link.nodeid).not.toBe(file.nodeid);
	expect(link.mode & S_IFMT).toBe(0o120000);
	const { fh } = await guest.open(file.nodeid);
	expect((await guest.read(file.nodeid, fh, 0, 9)).toString()).toBe("file");
});
