/*
 * A guest that wants out of its shared directory. Whatever it names, it reaches nothing beside the share: not by "..",
 * by links, by /proc's magic links, by devices and FIFOs, nor while names change under its hands.
 */
import { execFileSync, spawn } from "node:child_process";
import { linkSync, mkdirSync, renameSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { HostDirectory } from "../../../src/backends/host-directory/host-directory.ts";
import { setLogLevel } from "../../../src/base/log.ts";
import * as fuse from "../../../src/virtio/fs/constants.ts";
import { FsDevice } from "../../../src/virtio/fs/device.ts";
import * as structs from "../../../src/virtio/fs/structs.ts";
import { entryOf, FuseDriver, fields, names } from "../../virtio/fs/fuse-driver.ts";
import { Shared } from "./shared.ts";

const { errno } = constants;
const ROOT = fuse.FUSE_ROOT_ID;
const isRoot = process.getuid!() === 0;
const O_RDWR = 2;
const O_TRUNC = 0o1000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;

setLogLevel("error");

/** A share beside which lies a secret. */
async function beside() {
	const shared = await Shared.make();
	writeFileSync(join(shared.outside, "secret"), "not for guests");
	return shared;
}

/** All that a guest can try with a node to get at what it leads to; the errors. */
async function attempts(guest: FuseDriver, nodeid: number): Promise<number[]> {
	const open = fields(structs.fuse_open_in, { flags: O_RDWR });
	const create = fields(structs.fuse_create_in, { flags: O_RDWR, mode: 0o600 });
	const answers = [
		await guest.request(fuse.FUSE_LOOKUP, nodeid, names("secret")),
		await guest.request(fuse.FUSE_OPEN, nodeid, open),
		await guest.request(fuse.FUSE_OPENDIR, nodeid, open),
		await guest.request(fuse.FUSE_CREATE, nodeid, create, names("made")),
		await guest.request(fuse.FUSE_MKDIR, nodeid, fields(structs.fuse_mkdir_in, { mode: 0o700 }), names("made")),
		await guest.request(fuse.FUSE_TMPFILE, nodeid, create),
		await guest.request(fuse.FUSE_SETATTR, nodeid, fields(structs.fuse_setattr_in, { valid: fuse.FATTR_SIZE })),
	];
	return answers.map(({ error }) => error);
}

test("a symbolic link leads nowhere", async () => {
	await using shared = await beside();
	const { guest, outside, path } = shared;
	for (const [name, target] of [
		["up", ".."],
		["absolute", outside],
		["file", "../secret"],
		["proc", "/proc/self/cwd"],
	] as const) {
		symlinkSync(target, join(path, name));
		const { nodeid } = await guest.lookup(ROOT, name);
		const errors = await attempts(guest, nodeid);
		expect(errors.every((error) => [errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EINVAL].includes(error))).toBe(true);
	}
	/* A name that is a link is no new file of what it points to. */
	const create = fields(structs.fuse_create_in, { flags: O_RDWR | O_TRUNC, mode: 0o600 });
	expect((await guest.request(fuse.FUSE_CREATE, ROOT, create, names("file"))).error).toBe(errno.ENXIO);
	expect(statSync(join(outside, "secret")).size).toBe(14);
});

test("no name leads up or down, for the server and for the directory itself", async () => {
	await using shared = await beside();
	const { guest, directory, path } = shared;
	mkdirSync(join(path, "a"));
	writeFileSync(join(path, "a/b"), "");
	for (const name of ["..", "../secret", "a/b", "/etc", "a/../../secret"]) {
		expect((await guest.request(fuse.FUSE_LOOKUP, ROOT, names(name))).error).toBe(errno.EINVAL);
	}
	for (const name of ["..", "../secret", "/etc", "a/../../secret"]) {
		await expect(directory.lookup(directory.root, name)).rejects.toMatchObject({ code: "EXDEV" });
	}
});

test("a directory that is moved out of the share has no way up", async () => {
	await using shared = await beside();
	const { guest, outside, path } = shared;
	mkdirSync(join(path, "moves"));
	const { nodeid } = await guest.lookup(ROOT, "moves");
	renameSync(join(path, "moves"), join(outside, "moved"));
	for (const name of ["..", "../secret"]) {
		expect((await guest.request(fuse.FUSE_LOOKUP, nodeid, names(name))).error).toBe(errno.EINVAL);
	}
	expect((await guest.request(fuse.FUSE_LOOKUP, nodeid, names("secret"))).error).toBe(errno.ENOENT);
});

test("hard links are within the share: what the host has linked, and nothing that the guest links", async () => {
	await using shared = await beside();
	const { guest, outside, path } = shared;
	linkSync(join(outside, "secret"), join(path, "given"));
	const given = await guest.lookup(ROOT, "given");
	const { fh } = await guest.open(given.nodeid);
	expect((await guest.read(given.nodeid, fh, 0, 99)).toString()).toBe("not for guests");
	const link = (name: string, oldnodeid = given.nodeid) =>
		guest.request(fuse.FUSE_LINK, ROOT, fields(structs.fuse_link_in, { oldnodeid }), names(name));
	expect((await link("../stolen")).error).toBe(errno.EINVAL);
	expect((await link("fine")).error).toBe(0);
	expect((await link("directory", ROOT)).error).toBe(errno.EPERM);
});

test("names that change between a directory and a link never lead out", { timeout: 60_000 }, async () => {
	await using shared = await beside();
	const { guest, outside, path } = shared;
	mkdirSync(join(outside, "elsewhere"));
	writeFileSync(join(outside, "elsewhere/file"), "not for guests");
	mkdirSync(join(path, "here"));
	writeFileSync(join(path, "here/file"), "for guests");
	symlinkSync("../elsewhere", join(path, "there"));
	const forbidden = statSync(join(outside, "elsewhere")).ino;
	const forbiddenFile = statSync(join(outside, "elsewhere/file")).ino;
	/* Exchanges the two as fast as it can. */
	const program =
		"import ctypes,sys\nc=ctypes.CDLL(None)\nwhile True: c.renameat2(-100,sys.argv[1].encode(),-100,sys.argv[2].encode(),2)";
	const swapper = spawn("python3", ["-c", program, join(path, "here"), join(path, "there")]);
	try {
		const kinds = new Set<number>();
		for (let i = 0; i < 1000; i++) {
			const entry = await guest.lookup(ROOT, "here");
			kinds.add(entry.mode >> 12);
			expect(entry.ino).not.toBe(forbidden);
			const below = await guest.request(fuse.FUSE_LOOKUP, entry.nodeid, names("file"));
			if (below.error === 0) expect(entryOf(below).ino).not.toBe(forbiddenFile);
			const made = await guest.request(
				fuse.FUSE_MKDIR,
				entry.nodeid,
				fields(structs.fuse_mkdir_in, { mode: 0o700 }),
				names("made"),
			);
			if (made.error === 0) await guest.ok(fuse.FUSE_RMDIR, entry.nodeid, names("made"));
			await guest.forget(entry.nodeid, 1);
		}
		/* Both were seen: a directory and a link. */
		expect([...kinds].sort((a, b) => a - b)).toEqual([4, 10]);
	} finally {
		swapper.kill();
	}
	expect(execFileSync("ls", [join(outside, "elsewhere")], { encoding: "utf8" })).toBe("file\n");
});

test("/proc's magic links lead nowhere", async () => {
	const directory = await HostDirectory.open("/proc/self");
	const guest = await FuseDriver.mount(new FsDevice("proc", directory));
	try {
		for (const name of ["root", "cwd", "exe"]) {
			const { nodeid } = await guest.lookup(ROOT, name);
			const errors = await attempts(guest, nodeid);
			expect(errors.every((error) => [errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EINVAL].includes(error))).toBe(
				true,
			);
		}
		const fds = await guest.lookup(ROOT, "fd");
		const first = (await guest.readdir(fds.nodeid, 4096, true)).find(({ nodeid }) => nodeid !== 0)!;
		expect((await attempts(guest, first.nodeid))[1]).toBe(errno.ENXIO);
	} finally {
		await directory.close();
	}
});

test("a FIFO is shown and never opened, which would wait for its other end", async () => {
	await using shared = await beside();
	const { guest, path } = shared;
	execFileSync("mkfifo", [join(path, "fifo")]);
	const fifo = await guest.lookup(ROOT, "fifo");
	const open = fields(structs.fuse_open_in, { flags: 0 });
	expect((await guest.request(fuse.FUSE_OPEN, fifo.nodeid, open)).error).toBe(errno.ENXIO);
	const create = fields(structs.fuse_create_in, { flags: O_RDWR, mode: 0o600 });
	expect((await guest.request(fuse.FUSE_CREATE, ROOT, create, names("fifo"))).error).toBe(errno.ENXIO);
	const size = fields(structs.fuse_setattr_in, { valid: fuse.FATTR_SIZE });
	expect((await guest.request(fuse.FUSE_SETATTR, fifo.nodeid, size)).error).toBe(errno.EINVAL);
});

test("no guest makes a device node, but for an overlay's whiteout", async () => {
	await using shared = await beside();
	const { guest } = shared;
	const mknod = (name: string, mode: number, rdev: number) =>
		guest.request(fuse.FUSE_MKNOD, ROOT, fields(structs.fuse_mknod_in, { mode, rdev }), names(name));
	expect((await mknod("null", S_IFCHR | 0o666, 0x103)).error).toBe(errno.EPERM);
	expect((await mknod("disk", S_IFBLK | 0o666, 0x800)).error).toBe(errno.EPERM);
	expect((await mknod("zero", S_IFBLK | 0o666, 0)).error).toBe(errno.EPERM);
	expect((await mknod("whiteout", S_IFCHR, 0)).error).toBe(0);
	expect((await mknod("directory", 0o040755, 0)).error).toBe(errno.EINVAL);
});

test.runIf(isRoot)("a device node of the host is shown and never opened", async () => {
	await using shared = await beside();
	const { guest, path } = shared;
	execFileSync("mknod", [join(path, "zero"), "c", "1", "5"]);
	const zero = await guest.lookup(ROOT, "zero");
	const open = fields(structs.fuse_open_in, { flags: 0 });
	expect((await guest.request(fuse.FUSE_OPEN, zero.nodeid, open)).error).toBe(errno.ENXIO);
	const create = fields(structs.fuse_create_in, { flags: O_RDWR, mode: 0o600 });
	expect((await guest.request(fuse.FUSE_CREATE, ROOT, create, names("zero"))).error).toBe(errno.ENXIO);
});

test("a forgotten node's descriptor is nobody's: what is asked of it is stale", async () => {
	await using shared = await beside();
	const { directory, path } = shared;
	writeFileSync(join(path, "file"), "");
	const node = await directory.lookup(directory.root, "file");
	directory.forget(node);
	await expect(directory.getattr(node)).rejects.toMatchObject({ code: "ESTALE" });
	await expect(directory.open(node, 0, false)).rejects.toMatchObject({ code: "EBADF" });
	await expect(directory.link(node, { parent: directory.root, name: "x" })).rejects.toMatchObject({ code: "EBADF" });
});
