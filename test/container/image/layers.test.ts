import { closeSync, openSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { mergeLayers, type OpenLayer, writeTree } from "../../../src/container/image/layers.ts";
import { readRange } from "../../../src/container/image/tar/entry.ts";
import { readXattrs } from "../../../src/container/image/tar/pax.ts";
import { readTar } from "../../../src/container/image/tar/read.ts";
import { walk } from "../../../src/container/image/tree.ts";
import { type Member, tar, useDirectory } from "./archives.ts";

const directory = useDirectory();
const fds: number[] = [];
afterEach(() => {
	for (const fd of fds.splice(0)) closeSync(fd);
});

let count = 0;
function open(data: Buffer): OpenLayer {
	const fd = openSync(directory.file(`layer${count++}.tar`, data), "r");
	fds.push(fd);
	return { range: { fd, start: 0, size: data.length }, name: "layer" };
}

/** "path" or "path=content" or "path->target" for each name after all layers. */
async function merged(...layers: Member[][]): Promise<string[]> {
	const opened: OpenLayer[] = [];
	for (const layer of layers) opened.push(open(await tar(layer)));
	return [...walk(await mergeLayers(opened))].map(({ path, inode }) => {
		if (inode.type === "symlink") return `${path}->${inode.target}`;
		if (inode.type === "directory") return `${path}/`;
		if (inode.type !== "file") return `${path} ${inode.type}`;
		return `${path}=${readRange(opened[inode.source]!.range, inode.offset, inode.size)}`;
	});
}

const link = (name: string, linkname: string): Member => ({ name, type: "link", linkname });
const symlink = (name: string, linkname: string): Member => ({ name, type: "symlink", linkname });

describe("mergeLayers", () => {
	test("lets a later layer replace a file", async () => {
		expect(await merged([{ name: "a", data: "1" }], [{ name: "./a", data: "2" }])).toEqual(["a=2"]);
	});

	test("removes what a whiteout names, in the layers below only", async () => {
		const below = [
			{ name: "d/a", data: "1" },
			{ name: "d/b", data: "1" },
		];
		expect(await merged(below, [{ name: "d/.wh.a" }])).toEqual(["d/", "d/b=1"]);
		expect(await merged(below, [{ name: "d/a", data: "2" }, { name: "d/.wh.a" }])).toEqual(["d/", "d/a=2", "d/b=1"]);
		expect(await merged(below, [{ name: ".wh.d" }])).toEqual([]);
		expect(await merged(below, [{ name: "d/.wh.nothing" }, { name: "no/.wh.where" }])).toEqual([
			"d/",
			"d/a=1",
			"d/b=1",
		]);
	});

	test("empties an opaque directory of the layers below, wherever the mark stands", async () => {
		const below = [
			{ name: "d/a", data: "1" },
			{ name: "d/sub/x", data: "1" },
		];
		const above = [{ name: "d/new", data: "2" }, { name: "d/.wh..wh..opq" }];
		expect(await merged(below, above)).toEqual(["d/", "d/new=2"]);
		expect(await merged(below, above.reverse())).toEqual(["d/", "d/new=2"]);
	});

	test("leaves out what aufs kept for itself", async () => {
		expect(await merged([{ name: ".wh..wh.plnk/1.2", data: "x" }, { name: ".wh..wh.aufs" }, { name: "a" }])).toEqual([
			"a=",
		]);
	});

	test("replaces a directory by a file and a file by a directory", async () => {
		expect(await merged([{ name: "a/b" }], [{ name: "a", data: "f" }])).toEqual(["a=f"]);
		expect(await merged([{ name: "a" }], [{ name: "a/" }, { name: "a/b" }])).toEqual(["a/", "a/b="]);
		expect(await merged([symlink("a", "b"), { name: "b/x" }], [{ name: "a/" }, { name: "a/y" }])).toEqual([
			"a/",
			"a/y=",
			"b/",
			"b/x=",
		]);
	});

	test("changes a directory's metadata and keeps what is in it", async () => {
		const root = await mergeLayers([
			open(await tar([{ name: "d/", mode: 0o755 }, { name: "d/a" }])),
			open(await tar([{ name: "d/", mode: 0o1777, uid: 7, gid: 8 }])),
		]);
		const d = root.children!.get("d")!;
		expect({ mode: d.mode, uid: d.uid, gid: d.gid, names: [...d.children!.keys()] }).toEqual({
			mode: 0o1777,
			uid: 7,
			gid: 8,
			names: ["a"],
		});
	});

	test("takes the root's metadata from ./ and makes missing parents root's, 0755", async () => {
		const root = await mergeLayers([
			open(
				await tar([
					{ name: "./", mode: 0o700, uid: 5 },
					{ name: "x/y", uid: 9 },
				]),
			),
		]);
		expect([root.mode, root.uid, root.children!.get("x")!.mode, root.children!.get("x")!.uid]).toEqual([
			0o700, 5, 0o755, 0,
		]);
	});

	test("keeps hard links across layers and whiteouts", async () => {
		const first = [{ name: "a", data: "1" }];
		expect(await merged(first, [link("b", "a")])).toEqual(["a=1", "b=1"]);
		expect(await merged(first, [link("b", "./a")], [{ name: ".wh.a" }])).toEqual(["b=1"]);
		expect(await merged(first, [link("b", "/a"), { name: "a", data: "2" }])).toEqual(["a=2", "b=1"]);
		const root = await mergeLayers([open(await tar([...first, link("b", "a")]))]);
		expect(root.children!.get("a")).toBe(root.children!.get("b"));
	});

	test("follows symbolic links of parent directories inside the root", async () => {
		const usr = [{ name: "usr/bin/" }, symlink("bin", "usr/bin")];
		expect(await merged(usr, [{ name: "bin/x" }])).toEqual(["bin->usr/bin", "usr/", "usr/bin/", "usr/bin/x="]);
		expect(await merged([symlink("out", "../../../../etc"), { name: "out/passwd", data: "p" }])).toEqual([
			"etc/",
			"etc/passwd=p",
			"out->../../../../etc",
		]);
		expect(await merged([symlink("out", "/etc"), { name: "out/passwd", data: "p" }])).toEqual([
			"etc/",
			"etc/passwd=p",
			"out->/etc",
		]);
		expect(await merged([...usr, { name: "usr/bin/x" }], [{ name: "bin/.wh.x" }])).toEqual([
			"bin->usr/bin",
			"usr/",
			"usr/bin/",
		]);
	});

	test("takes names with a leading slash from the root", async () => {
		expect(await merged([{ name: "/etc/passwd", data: "p" }])).toEqual(["etc/", "etc/passwd=p"]);
	});

	test.each<[string, string, Member[]]>([
		["a name with ..", "ERR_IMAGE_PATH", [{ name: "../etc/passwd" }]],
		["a name with .. inside", "ERR_IMAGE_PATH", [{ name: "a/../../b" }]],
		["a whiteout of ..", "ERR_IMAGE_PATH", [{ name: "a/.wh..." }]],
		["a whiteout of .", "ERR_IMAGE_PATH", [{ name: ".wh.." }]],
		["a whiteout of nothing", "ERR_IMAGE_PATH", [{ name: ".wh." }]],
		["a hard link to ..", "ERR_IMAGE_PATH", [link("a", "../../etc/shadow")]],
		["a hard link to nothing", "ERR_IMAGE_MALFORMED", [link("a", "b")]],
		["a hard link to itself", "ERR_IMAGE_MALFORMED", [link("a", "a")]],
		["a hard link to a directory", "ERR_IMAGE_MALFORMED", [{ name: "d/" }, link("a", "d")]],
		["a hard link to the root", "ERR_IMAGE_MALFORMED", [link("a", "./")]],
		["a file in a file", "ERR_IMAGE_MALFORMED", [{ name: "a" }, { name: "a/b" }]],
		["a loop of symbolic links", "ERR_IMAGE_MALFORMED", [symlink("a", "b"), symlink("b", "a"), { name: "a/x" }]],
		["a root that is a file", "ERR_IMAGE_MALFORMED", [{ name: "./", type: "symlink", linkname: "x" }]],
		["a symbolic link of 5000 bytes", "ERR_IMAGE_MALFORMED", [symlink("a", "x".repeat(5000))]],
		["a name of 256 bytes", "ERR_IMAGE_MALFORMED", [{ name: "n".repeat(256) }]],
		["a path of 5000 bytes", "ERR_IMAGE_MALFORMED", [{ name: "d/".repeat(2500).concat("f") }]],
		["an owner out of range", "ERR_IMAGE_MALFORMED", [{ name: "a", pax: { uid: "4294967295" } }]],
		["a negative owner", "ERR_IMAGE_MALFORMED", [{ name: "a", pax: { gid: "-1" } }]],
		["a sparse file", "ERR_IMAGE_MALFORMED", [{ name: "a", pax: { "GNU.sparse.major": "1" } }]],
	])("refuses %s with %s", async (_what, code, members) => {
		const layer = open(await tar(members));
		await expect(mergeLayers([layer])).rejects.toMatchObject({ code });
	});

	test("does not recurse: 2000 nested directories, and links that grow each other, end with an answer", async () => {
		const deep = await tar([symlink("a", "a/a/a/a/a/a/a/a"), { name: "a/x" }]);
		await expect(mergeLayers([open(deep)])).rejects.toMatchObject({ code: "ERR_IMAGE_MALFORMED" });
		expect((await merged([{ name: `${"d/".repeat(2000)}f` }])).length).toBe(2001);
	});
});

describe("writeTree", () => {
	test("writes what readTar reads back: types, owners, times, long names, attributes as bytes", async () => {
		const long = `${"l".repeat(120)}/${"m".repeat(130)}`;
		const members: Member[] = [
			{ name: "big-owner", pax: { uid: "3000000000" }, gid: 70_000, mode: 0o4755, data: "x" },
			{ name: "dev/null", type: "character-device", devmajor: 1, devminor: 3 },
			{ name: "dev/disk", type: "block-device", devmajor: 300, devminor: 70_000 },
			{ name: "fifo", type: "fifo" },
			{ name: long, data: "deep" },
			{ name: "link", type: "symlink", linkname: "t".repeat(300) },
			{ name: "umläut ✓", data: "u" },
			{
				name: "attr",
				data: "a",
				pax: { "SCHILY.xattr.user.note": "a=b\nc", "SCHILY.xattr.system.posix_acl_access": "no" },
			},
			{ name: "hard", type: "link", linkname: "attr" },
		];
		const layers = [open(await tar(members))];
		const parts = [];
		for await (const part of writeTree(await mergeLayers(layers), layers)) parts.push(part);
		const again = open(Buffer.concat(parts));
		const found = new Map(
			[...readTar(again.range, "again")].map((entry) => [Buffer.from(entry.path, "latin1").toString(), entry]),
		);
		expect(found.get("big-owner")).toMatchObject({
			uid: 3_000_000_000,
			gid: 70_000,
			mode: 0o4755,
			mtime: 1_000_000_000,
		});
		expect(found.get("dev/disk")).toMatchObject({ type: "block", major: 300, minor: 70_000 });
		expect(found.get("dev/null")).toMatchObject({ type: "char", major: 1, minor: 3 });
		expect(found.get("fifo")).toMatchObject({ type: "fifo" });
		expect(readRange(again.range, found.get(long)!.offset, 4).toString()).toBe("deep");
		expect(found.get("link")!.target).toBe("t".repeat(300));
		expect(found.get("umläut ✓")).toBeDefined();
		expect([...readXattrs(again.range, found.get("attr")!.xattrs, "again")]).toEqual([
			["user.note", Buffer.from("a=b\nc")],
		]);
		expect(found.get("hard")).toMatchObject({ type: "link", target: "attr" });
	});
});
