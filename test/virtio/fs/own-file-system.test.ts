/*
 * The file system of docs/examples/own-file-system.ts, as a guest sees it.
 */
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { expect, test } from "vitest";
import { Multiplication } from "../../../docs/examples/own-file-system.ts";
import * as fuse from "../../../src/virtio/fs/constants.ts";
import { FsDevice } from "../../../src/virtio/fs/device.ts";
import * as structs from "../../../src/virtio/fs/structs.ts";
import { deviceSuite } from "../device-suite.ts";
import { FuseDriver, fields, names } from "./fuse-driver.ts";

const ROOT = fuse.FUSE_ROOT_ID;
const { ENOENT, EROFS, ENOSYS } = constants.errno;

test("a file system of one's own is listed and read, and refuses what it does not do", async () => {
	const driver = await FuseDriver.mount(new FsDevice("numbers", new Multiplication()));
	expect((await driver.readdir(ROOT, 100)).map(({ name }) => name)).toEqual("1 2 3 4 5 6 7 8 9 10".split(" "));
	const seven = await driver.lookup(ROOT, "7");
	const six = await driver.lookup(seven.nodeid, "6");
	const { fh } = await driver.open(six.nodeid);
	expect((await driver.read(six.nodeid, fh, 0, 4096)).toString()).toBe("42\n");
	expect((await driver.read(six.nodeid, fh, 1, 4096)).toString()).toBe("2\n");
	await driver.release(six.nodeid, fh);
	expect(await driver.lookup(seven.nodeid, "6")).toMatchObject({ nodeid: six.nodeid, size: 3 });
	const mkdir = fields(structs.fuse_mkdir_in, { mode: 0o755 });
	const write = fields(structs.fuse_open_in, { flags: 1 });
	const get = fields(structs.fuse_getxattr_in, { size: 8 });
	const refused = [
		await driver.request(fuse.FUSE_LOOKUP, ROOT, names("11")),
		await driver.request(fuse.FUSE_MKDIR, ROOT, mkdir, names("8")),
		await driver.request(fuse.FUSE_OPEN, six.nodeid, write),
		await driver.request(fuse.FUSE_GETXATTR, six.nodeid, get, names("user.a")),
	];
	expect(refused.map(({ error }) => error)).toEqual([ENOENT, EROFS, EROFS, ENOSYS]);
	expect((await driver.request(fuse.FUSE_STATFS, ROOT)).error).toBe(0);
});

test("a file system of one's own takes fewer than sixty lines", () => {
	const source = readFileSync("docs/examples/own-file-system.ts", "utf8");
	expect(source.trim().split("\n").length).toBeLessThan(60);
});

/* Whatever a hostile driver does. */
deviceSuite({ name: "Multiplication", make: () => new FsDevice("numbers", new Multiplication()), eager: [1] });
