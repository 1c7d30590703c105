import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { importImage } from "../../../src/container/image/import.ts";
import { ImageStore } from "../../../src/container/image/store.ts";
import { readRange } from "../../../src/container/image/tar/entry.ts";
import { readXattrs } from "../../../src/container/image/tar/pax.ts";
import { readTar } from "../../../src/container/image/tar/read.ts";
import { padding, tarEnd, tarHeader } from "../../../src/container/image/tar/write.ts";
import { type Member, ociLayout, packFiles, tar, useDirectory } from "./archives.ts";
import { builtRootfs } from "./built-rootfs.ts";

const directory = useDirectory();

const CAPABILITY = Buffer.from("0100000200200000000000000080ff0000000000", "hex");
const LOWER: Member[] = [
	{ name: "./", mode: 0o751, uid: 1000, gid: 6, mtime: new Date(5000) },
	{ name: "bin/", mode: 0o755 },
	{ name: "bin/sh", data: "#!sh", mode: 0o755 },
	{ name: "bin/su", data: "su", mode: 0o4755 },
	{ name: "gone", data: "x" },
	{ name: "opaque/old", data: "x" },
	{ name: "dev/null", type: "character-device", devmajor: 1, devminor: 3, mode: 0o666 },
	{ name: "dev/vda", type: "block-device", devmajor: 254, devminor: 0, mode: 0o660, gid: 6 },
	{ name: "run/pipe", type: "fifo", mode: 0o600 },
	{ name: "big", data: Buffer.alloc(300_001, "abc") },
	{ name: "empty", data: "" },
];
const UPPER: Member[] = [
	{ name: ".wh.gone" },
	{ name: "opaque/.wh..wh..opq" },
	{ name: "opaque/new", data: "new", uid: 1000, gid: 1000, mode: 0o640, mtime: new Date(1_700_000_000_000) },
	{ name: "bin/bash", type: "link", linkname: "bin/sh" },
	{ name: "lib", type: "symlink", linkname: "usr/lib" },
	{ name: "lib/x", data: "through a link" },
	{ name: `${"long/".repeat(40)}name`, data: "long" },
	{ name: "näme ✓", data: "utf-8" },
];

/** A third layer with a file that has a capability, whose value is no text. */
function attributes(): Buffer {
	const one = { uid: 0, gid: 0, major: 0, minor: 0, mtime: 9, target: "" };
	const xattrs = new Map([
		["security.capability", CAPABILITY],
		["user.note", Buffer.from("a=b\nc")],
		["system.posix_acl_access", Buffer.from("cannot be kept")],
	]);
	return Buffer.concat([
		tarHeader({ ...one, path: "bin/ping", type: "file", mode: 0o755, size: 4, xattrs }),
		Buffer.from("ping"),
		padding(4),
		tarEnd(),
	]);
}

async function build() {
	const store = directory.store();
	const layers = [await tar(LOWER), await tar(UPPER), attributes()];
	const path = directory.file("image.tar", await packFiles(ociLayout(layers)));
	await importImage(store, path, { name: "app" });
	return { store, image: store.find("app") };
}

test("openRootfs makes a squashfs with exactly the merged tree, entry by entry", async () => {
	const { store, image } = await build();
	const seen: number[] = [];
	const { path, fstype } = await builtRootfs(store, image, { onProgress: (done, total) => seen.push(done / total) });
	expect(fstype).toBe("squashfs");
	expect(statSync(path).size % 4096).toBe(0);
	expect(seen.at(-1)).toBe(1);

	const back = directory.file("back.tar", execFileSync("sqfs2tar", [path], { maxBuffer: 64 * 2 ** 20 }));
	const fd = openSync(back, "r");
	try {
		const range = { fd, start: 0, size: statSync(back).size };
		const found = Object.fromEntries(
			[...readTar(range, "back")].map((entry) => {
				const { type, mode, uid, gid, mtime, target, major, minor, offset, size } = entry;
				const xattrs = Object.fromEntries(readXattrs(range, entry.xattrs, "back"));
				const data = type === "file" ? readRange(range, offset, size).toString("latin1") : undefined;
				const name = Buffer.from(entry.path, "latin1").toString().replace(/\/$/, "");
				return [name, { type, mode, uid, gid, mtime, target, major, minor, data, xattrs }];
			}),
		);
		const any = (part: object) => expect.objectContaining(part);
		const T = 1_000_000_000;
		const made = { type: "directory", mode: 0o755, uid: 0, gid: 0 };
		const long = Object.fromEntries(
			Array.from({ length: 40 }, (_, i) => ["long/".repeat(i + 1).slice(0, -1), any(made)]),
		);
		expect(found).toEqual({
			...long,
			bin: any({ ...made, mtime: T }),
			"bin/bash": any({ type: "file", data: "#!sh", mode: 0o755 }),
			"bin/ping": any({
				data: "ping",
				mtime: 9,
				xattrs: { "security.capability": CAPABILITY, "user.note": Buffer.from("a=b\nc") },
			}),
			"bin/sh": any({ type: "link", target: "bin/bash" }),
			"bin/su": any({ data: "su", mode: 0o4755 }),
			big: any({ data: Buffer.alloc(300_001, "abc").toString() }),
			dev: any(made),
			"dev/null": any({ type: "char", major: 1, minor: 3, mode: 0o666 }),
			"dev/vda": any({ type: "block", major: 254, minor: 0, mode: 0o660, gid: 6 }),
			empty: any({ data: "" }),
			lib: any({ type: "symlink", target: "usr/lib" }),
			[`${"long/".repeat(40)}name`]: any({ data: "long" }),
			"näme ✓": any({ data: "utf-8" }),
			opaque: any(made),
			"opaque/new": any({ data: "new", uid: 1000, gid: 1000, mode: 0o640, mtime: 1_700_000_000 }),
			run: any(made),
			"run/pipe": any({ type: "fifo", mode: 0o600 }),
			usr: any(made),
			"usr/lib": any(made),
			"usr/lib/x": any({ data: "through a link" }),
		});
	} finally {
		closeSync(fd);
	}
	const root = execFileSync("unsquashfs", ["-lln", path], { encoding: "utf8" }).split("\n")[0];
	expect(root).toMatch(/^drwxr-x--x 1000\/6 .* 1970-01-01 00:00 /);
});

test("openRootfs gives the same bytes for the same image, and builds once", async () => {
	const { store, image } = await build();
	const { path } = await builtRootfs(store, image);
	const first = readFileSync(path);
	const inode = statSync(path).ino;
	await builtRootfs(store, image);
	expect(statSync(path).ino).toBe(inode);
	rmSync(path);
	await Promise.all([builtRootfs(store, image), builtRootfs(store, image)]);
	expect(readFileSync(path).equals(first)).toBe(true);
	expect(readdirSync(store.rootfsDirectory)).toHaveLength(1);
});

test("openRootfs builds from layers that are compressed, and from none at all", async () => {
	const store = directory.store();
	const compress = (data: Buffer) => execFileSync("xz", ["-c"], { input: data });
	await importImage(store, directory.file("a", await packFiles(ociLayout([await tar(LOWER)], { compress }))), {
		name: "xz",
	});
	await importImage(store, directory.file("b", await packFiles(ociLayout([]))), { name: "scratch" });
	for (const [name, count] of [
		["xz", 14],
		["scratch", 1],
	] as const) {
		const { path } = await builtRootfs(store, store.find(name));
		const lines = execFileSync("unsquashfs", ["-lln", path], { encoding: "utf8" }).trim().split("\n");
		expect([name, lines.length]).toEqual([name, count]);
	}
	expect(readdirSync(store.rootfsDirectory)).toHaveLength(2);
});

test("openRootfs stops when it is told to, and leaves nothing", async () => {
	const { store, image } = await build();
	const stop = new AbortController();
	const reason = new Error("enough");
	const work = builtRootfs(store, image, { signal: stop.signal, onProgress: () => stop.abort(reason) });
	await expect(work).rejects.toBe(reason);
	expect(readdirSync(store.rootfsDirectory)).toEqual([]);
});

test("openRootfs notices a blob that was lost in the store", async () => {
	const { store, image } = await build();
	rmSync(store.blobPath(image.layers[0]!.digest));
	await expect(builtRootfs(store, image)).rejects.toMatchObject({ code: "ERR_STORE_READ" });
	expect(readdirSync(store.rootfsDirectory)).toEqual([]);
});

test.runIf(process.getuid!() === 0)(
	"openRootfs makes the same files for every user, and never the root directory the builder's",
	async () => {
		const { store, image } = await build();
		const mine = await builtRootfs(store, image);
		const other = new ImageStore(join(directory.path, "other/images"));
		await importImage(other, join(directory.path, "image.tar"), { name: "app" });
		await importImage(other, directory.file("empty.tar", await packFiles(ociLayout([]))), { name: "scratch" });
		execFileSync("chown", ["-R", "1234:1235", join(directory.path, "other")]);
		const script = `
		import { openRootfs } from ${JSON.stringify(join(process.cwd(), "src/container/image/rootfs.ts"))};
		import { ImageStore } from ${JSON.stringify(join(process.cwd(), "src/container/image/store.ts"))};
		process.chdir(process.argv[2]);
		process.setgroups([]);
		process.setgid(1235);
		process.setuid(1234);
		const store = new ImageStore("images");
		for (const name of ["app", "scratch"]) {
			await using rootfs = await openRootfs(store, store.find(name));
			console.log(rootfs.path);
		}
	`;
		const file = directory.file("build.mts", Buffer.from(script));
		const stdout = execFileSync(process.execPath, ["--import", "tsx", file, join(directory.path, "other")], {
			encoding: "utf8",
		});
		const [theirs, scratch] = stdout
			.trim()
			.split("\n")
			.map((path) => join(directory.path, "other", path)) as [string, string];
		const list = (path: string) => execFileSync("unsquashfs", ["-lln", path], { encoding: "utf8" });
		expect(statSync(theirs).uid).toBe(1234);
		expect(list(theirs)).toBe(list(mine.path));
		expect(list(scratch)).toMatch(/^drwxr-xr-x 0\/0 /);
	},
);

/* Only root may mount; sqfs2tar above reads the same image without it. */
const canMount = process.getuid!() === 0 && spawnSync("losetup", ["--find"]).status === 0;
test.runIf(canMount)("openRootfs makes what the kernel mounts: hard links, devices, attributes of files", async () => {
	const { store, image } = await build();
	const { path } = await builtRootfs(store, image);
	const at = join(directory.path, "mnt");
	mkdirSync(at);
	execFileSync("mount", ["-o", "loop,ro", path, at]);
	try {
		expect(statSync(join(at, "bin/sh")).ino).toBe(statSync(join(at, "bin/bash")).ino);
		expect(statSync(join(at, "bin/sh")).nlink).toBe(2);
		expect(statSync(at)).toMatchObject({ uid: 1000, gid: 6, mode: 0o40751, mtimeMs: 5000 });
		expect(readFileSync(join(at, "lib/x"), "utf8")).toBe("through a link");
		expect(readdirSync(join(at, "opaque"))).toEqual(["new"]);
	} finally {
		execFileSync("umount", [at]);
	}
});
