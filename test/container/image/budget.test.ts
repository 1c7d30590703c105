/*
 * Small archives that unpack to large ones. Each gives ERR_IMAGE_TOO_LARGE or an image, in bounded memory and time.
 * Limits are lowered where the real ones would take long to reach.
 */
import { execFileSync } from "node:child_process";
import { closeSync, openSync, readdirSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import { ImageBudget, type ImageLimits } from "../../../src/container/image/budget.ts";
import { decompress } from "../../../src/container/image/decompress.ts";
import { importImage } from "../../../src/container/image/import.ts";
import { measureTree, mergeLayers, type OpenLayer, writeTree } from "../../../src/container/image/layers.ts";
import { Pace } from "../../../src/container/image/pace.ts";
import { openRootfs } from "../../../src/container/image/rootfs.ts";
import { readXattrs } from "../../../src/container/image/tar/pax.ts";
import { readTar } from "../../../src/container/image/tar/read.ts";
import { tarEnd } from "../../../src/container/image/tar/write.ts";
import { walk } from "../../../src/container/image/tree.ts";
import { json, type Member, ociLayout, packFiles, sha256, tar, useDirectory, withFile } from "./archives.ts";

const directory = useDirectory();
const fds: number[] = [];
afterEach(() => {
	for (const fd of fds.splice(0)) closeSync(fd);
});

function open(data: Buffer, name = "layer"): OpenLayer {
	const fd = openSync(directory.file(`${name}.tar`, data), "r");
	fds.push(fd);
	return { range: { fd, start: 0, size: data.length }, name };
}

const TOO_LARGE = "ERR_IMAGE_TOO_LARGE";
const merge = (data: Buffer, limits: Partial<ImageLimits> = {}) => mergeLayers([open(data)], new ImageBudget(limits));

/** A member's header as ustar has it, for archives whose making must not take longer than their reading. */
function header(name: string, { type = "0", size = 0, target = "" } = {}): Buffer {
	const block = Buffer.alloc(512);
	block.write(name, 0, "latin1");
	block.write("0000644\x000000000\x000000000\0", 100, "latin1");
	block.write(`${size.toString(8).padStart(11, "0")}\x0000000000000\0        ${type}${target}`, 124, "latin1");
	block.write("ustar\x0000", 257, "latin1");
	const sum = block.reduce((total, byte) => total + byte, 0);
	block.write(`${sum.toString(8).padStart(6, "0")}\0`, 148, "latin1");
	return block;
}

function pax(type: "x" | "g", records: readonly (readonly [string, string])[]): Buffer {
	const body = records
		.map(([key, value]) => {
			const rest = ` ${key}=${value}\n`;
			const digits = String(rest.length + String(rest.length + 1).length).length;
			return `${rest.length + digits}${rest}`;
		})
		.join("");
	const data = Buffer.alloc(Math.ceil(body.length / 512) * 512);
	data.write(body, "latin1");
	return Buffer.concat([header("pax", { type, size: body.length }), data]);
}

const files = (count: number, name = (i: number) => `f${i}`) =>
	Array.from({ length: count }, (_, i) => header(name(i)));
const xattrs = (count: number, value: string) =>
	Array.from({ length: count }, (_, i) => [`SCHILY.xattr.user.a${i}`, value] as const);

describe("mergeLayers is bounded by", () => {
	test("the attributes that a global header gives to every file after it", async () => {
		const bomb = Buffer.concat([pax("g", xattrs(28_000, "v")), ...files(3000), tarEnd()]);
		await expect(merge(bomb)).rejects.toMatchObject({
			code: TOO_LARGE,
			message: expect.stringMatching(
				/layer: \d+ bytes of extended attributes of one file, at most 131072 are accepted/,
			),
		});
	});

	test("the attributes of one file, and of all files together", async () => {
		const one = Buffer.concat([pax("x", xattrs(15, "v".repeat(60_000))), header("f"), tarEnd()]);
		await expect(merge(one)).rejects.toMatchObject({ code: TOO_LARGE, message: expect.stringContaining("one file") });
		const all = Buffer.concat([pax("g", xattrs(10, "v".repeat(100))), ...files(100), tarEnd()]);
		await expect(merge(all, { xattrBytes: 100_000 })).rejects.toMatchObject({
			code: TOO_LARGE,
			message: expect.stringContaining("bytes of extended attributes, at most 100000"),
		});
		await merge(all, { xattrBytes: 200_000 });
	});

	test("extended headers between two members, local and global ones", async () => {
		for (const type of ["x", "g"] as const) {
			const large = pax(type, [["comment", "c".repeat(500_000)]]);
			await expect(merge(Buffer.concat([large, large, large, header("f"), tarEnd()]))).rejects.toMatchObject({
				code: "ERR_IMAGE_MALFORMED",
				message: expect.stringContaining("bytes of extended headers"),
			});
			await merge(Buffer.concat([large, header("f"), large, header("g"), tarEnd()]));
		}
	});

	test("names, those that a path implies among them", async () => {
		const layer = Buffer.concat([...files(50), tarEnd()]);
		await merge(layer, { entries: 50 });
		await expect(merge(layer, { entries: 49 })).rejects.toMatchObject({
			code: TOO_LARGE,
			message: "Cannot read image: layer: 50 names in all layers, at most 49 are accepted",
		});
		const deep = Buffer.concat([header(`${"d/".repeat(40)}f`), tarEnd()]);
		await merge(deep, { entries: 41 });
		await expect(merge(deep, { entries: 40 })).rejects.toMatchObject({ code: TOO_LARGE });
		const layers = [open(layer, "one"), open(layer, "two")];
		await expect(mergeLayers(layers, new ImageBudget({ entries: 99 }))).rejects.toMatchObject({ code: TOO_LARGE });
	});

	test("memory for names and targets, and never more than half of the heap", async () => {
		const links = Array.from({ length: 200 }, (_, i) => [
			pax("x", [["linkpath", "t".repeat(4000)]]),
			header(`l${i}`, { type: "2" }),
		]);
		const layer = Buffer.concat([...links.flat(), tarEnd()]);
		await merge(layer, { heldBytes: 1_000_000 });
		await expect(merge(layer, { heldBytes: 500_000 })).rejects.toMatchObject({
			code: TOO_LARGE,
			message: expect.stringContaining("bytes of memory for names and targets, at most 500000"),
		});
		expect(() => new ImageBudget({ heldBytes: 1e15 }).hold("layer", 1e12)).toThrow("bytes of memory");
	});

	test("the symbolic links that are followed", async () => {
		const there = "d/../".repeat(700);
		const chain = Array.from({ length: 38 }, (_, i) => [
			pax("x", [["linkpath", `${there}${i < 37 ? `l${i + 1}` : "d"}`]]),
			header(`l${i}`, { type: "2" }),
		]);
		const layer = Buffer.concat([
			header("d", { type: "5" }),
			...chain.flat(),
			...files(200, (i) => `l0/f${i}`),
			tarEnd(),
		]);
		await expect(merge(layer, { walkedBytes: 10_000_000 })).rejects.toMatchObject({
			code: TOO_LARGE,
			message: expect.stringContaining("bytes of paths and symbolic links followed, at most 10000000"),
		});
	});

	test("the length of a path, also of one that symbolic links make longer", async () => {
		const huge = Buffer.concat([pax("x", [["path", "n".repeat(1_000_000)]]), header("x"), tarEnd()]);
		const error = await merge(huge).catch((thrown: Error & { code: string }) => thrown);
		expect(error).toMatchObject({ code: "ERR_IMAGE_MALFORMED", message: expect.stringContaining("too long") });
		expect((error as Error).message.length).toBeLessThan(300);
		const part = "p".repeat(250);
		const members: Member[] = [{ name: "a/" }, { name: "l0", type: "symlink", linkname: "a" }];
		for (let i = 0; i < 20; i++) {
			members.push({ name: `l${i}/${part}/` }, { name: `l${i + 1}`, type: "symlink", linkname: `l${i}/${part}` });
		}
		await expect(merge(await tar(members))).rejects.toMatchObject({
			code: "ERR_IMAGE_MALFORMED",
			message: expect.stringContaining("too long: it ends with"),
		});
	});

	test("a signal, and lets others have a turn meanwhile", async () => {
		const layer = open(Buffer.concat([...files(1000), tarEnd()]));
		const stop = new AbortController();
		const reason = new Error("enough");
		setImmediate(() => stop.abort(reason));
		await expect(mergeLayers([layer], undefined, new Pace(stop.signal, 0))).rejects.toBe(reason);
	});
});

test("global attributes reach the files after them, a file's own come first, and later headers change no earlier file", async () => {
	const member = (name: string, records: readonly (readonly [string, string])[] = []) =>
		Buffer.concat([...(records.length > 0 ? [pax("x", records)] : []), header(name)]);
	const layer = open(
		Buffer.concat([
			member("none"),
			pax("g", [
				["SCHILY.xattr.user.a", "1"],
				["SCHILY.xattr.user.b", "1"],
			]),
			member("one"),
			pax("g", [["SCHILY.xattr.user.a", "2"]]),
			member("own", [["SCHILY.xattr.user.b", "own"]]),
			member("two"),
			tarEnd(),
		]),
	);
	const parts = [];
	for await (const part of writeTree(await mergeLayers([layer]), [layer])) parts.push(part);
	const again = open(Buffer.concat(parts), "again");
	const found = [...readTar(again.range, "again")].map((entry) => {
		const all = [...readXattrs(again.range, entry.xattrs, "again")];
		return `${entry.path} ${all.map(([name, value]) => `${name}=${value}`).join(" ")}`.trim();
	});
	expect(found).toEqual(["none", "one user.a=1 user.b=1", "own user.a=2 user.b=own", "two user.a=2 user.b=1"]);
});

test("500 hard links to one file are one file", async () => {
	const links = Array.from({ length: 500 }, (_, i) => header(`l${i}`, { type: "1", target: "a" }));
	const layer = Buffer.concat([header("a", { size: 3 }), Buffer.alloc(512, "abc"), ...links, tarEnd()]);
	const root = await merge(layer);
	expect([...walk(root)]).toHaveLength(501);
	expect((await measureTree(root)).sizeBytes).toBe(3);
});

test("measureTree refuses more owners than a squashfs can number", async () => {
	const root = await merge(await tar([1, 2, 3, 4].map((uid) => ({ name: `f${uid}`, uid, gid: 0 }))));
	expect((await measureTree(root, new ImageBudget({ owners: 5 }))).owners).toEqual(new Set([0, 1, 2, 3, 4]));
	await expect(measureTree(root, new ImageBudget({ owners: 4 }))).rejects.toMatchObject({
		code: TOO_LARGE,
		message: "Cannot read image: the image: 5 different owners, at most 4 are accepted",
	});
});

describe("importImage is bounded by", () => {
	const take = (data: Buffer, limits: Partial<ImageLimits>) =>
		importImage(directory.store(), directory.file("image.tar", data), { name: "x", limits });

	test("the ratio of what it unpacks to what it was given, in layers within archives, too", async () => {
		const zeros = await tar([{ name: "zeros", data: Buffer.alloc(4_000_000) }]);
		const limits = { freeBytes: 1_000_000 };
		const twice = gzipSync(await packFiles(ociLayout([zeros], { compress: gzipSync })));
		for (const data of [gzipSync(zeros), twice]) {
			await expect(take(data, limits)).rejects.toMatchObject({
				code: TOO_LARGE,
				message: expect.stringMatching(/\d+ bytes unpacked from \d+, at most \d+ are accepted/),
			});
			await take(data, { freeBytes: 10_000_000 });
		}
	});

	test("the number of images in one archive", async () => {
		const layout = ociLayout([await tar([{ name: "a" }])]);
		const [one] = JSON.parse(String(layout.get("index.json"))).manifests;
		const platform = { os: "linux", architecture: "amd64" };
		const manifests = ["a", "b", "c"].map((name) => [
			{ ...one, platform, annotations: { "io.containerd.image.name": name } },
			{ ...one, digest: sha256(name), annotations: { "io.containerd.image.name": name } },
		]);
		const files = withFile(layout, "index.json", json({ schemaVersion: 2, manifests: manifests.flat() }));
		const archive = directory.file("images.tar", await packFiles(files));
		await expect(importImage(directory.store(), archive, { limits: { images: 2 } })).rejects.toMatchObject({
			code: TOO_LARGE,
			message: expect.stringContaining("3 images, at most 2 are accepted"),
		});
		await expect(importImage(directory.store(), archive, { limits: { images: 3 } })).resolves.toHaveLength(3);
	});

	test("a signal", async () => {
		const reason = new Error("enough");
		const path = directory.file("image.tar", gzipSync(await tar([{ name: "a" }])));
		const store = directory.store();
		await expect(importImage(store, path, { name: "x", signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
		expect(store.list()).toEqual([]);
	});
});

test("openRootfs ends before it begins when it is told to", async () => {
	const store = directory.store();
	await importImage(store, directory.file("a.tar", await tar([{ name: "a" }])), { name: "x" });
	const reason = new Error("enough");
	const signal = AbortSignal.abort(reason);
	await expect(openRootfs(store, store.find("x"), { signal })).rejects.toBe(reason);
	expect(readdirSync(store.rootfsDirectory)).toEqual([]);
});

test.each([
	["xz", ["xz", "-0", "--lzma2=preset=0,dict=512MiB"], 256],
	["zstd", ["zstd", "-q", "-1", "--ultra", "--long=29"], 128],
] as const)("decompress gives %s no more memory than is stated", async (name, [tool, ...args], mebibytes) => {
	/* A stream of known length would get a smaller window. */
	const packed = execFileSync("sh", ["-c", `head -c 1000000 /dev/zero | ${tool} ${args.join(" ")} -c`]);
	await expect(async () => {
		for await (const _ of decompress([packed], name, "layer", new ImageBudget()));
	}).rejects.toMatchObject({
		code: TOO_LARGE,
		message: `Cannot read image: layer: it needs more memory to unpack than ${name} may take, which is ${mebibytes} MiB`,
	});
});
