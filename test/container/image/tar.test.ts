import { execFileSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { expect, test } from "vitest";
import { ImageError } from "../../../src/base/errors.ts";
import type { TarEntry } from "../../../src/container/image/tar/entry.ts";
import { readXattrs } from "../../../src/container/image/tar/pax.ts";
import { looksLikeTar, readTar } from "../../../src/container/image/tar/read.ts";
import { padding, tarEnd, tarHeader } from "../../../src/container/image/tar/write.ts";
import { tar, useDirectory } from "./archives.ts";

const directory = useDirectory();

/** The members, with their extended attributes read. */
function read(data: Buffer): (TarEntry & { attributes: Map<string, Buffer> })[] {
	const fd = openSync(directory.file("a.tar", data), "r");
	try {
		const range = { fd, start: 0, size: data.length };
		const entries = [...readTar(range, "a.tar")];
		return entries.map((entry) => ({ ...entry, attributes: readXattrs(range, entry.xattrs, "a.tar") }));
	} finally {
		closeSync(fd);
	}
}

const plain = { type: "file" as const, mode: 0o644, uid: 1, gid: 2, mtime: 3, target: "", major: 0, minor: 0 };

test("readTar reads what tarHeader writes, binary attributes and names unchanged", () => {
	const capability = Buffer.from("0100000200200000000000000080ff00000000000000", "hex");
	const entry = { ...plain, path: "b\xff\xfe", size: 3, xattrs: new Map([["security.capability", capability]]) };
	const [found] = read(Buffer.concat([tarHeader(entry), Buffer.from("abc"), padding(3), tarEnd()]));
	expect(found).toMatchObject({ path: "b\xff\xfe", uid: 1, gid: 2, mtime: 3, size: 3 });
	expect(found!.attributes.get("security.capability")).toEqual(capability);
});

test.each(["gnu", "pax", "ustar", "v7"])("readTar reads GNU tar's %s format", (format) => {
	const long = format === "v7" || format === "ustar" ? "short" : `${"x".repeat(90)}/${"y".repeat(90)}`;
	directory.file(`in/${long}`, Buffer.from("content"));
	const data = execFileSync("tar", [
		`--format=${format}`,
		"--owner=:12",
		"--group=:34",
		"-C",
		directory.path,
		"-cf",
		"-",
		"in",
	]);
	const file = read(data).find((entry) => entry.type === "file")!;
	expect(file).toMatchObject({ path: `in/${long}`, size: 7, uid: 12, gid: 34 });
	expect(data.toString("latin1", file.offset, file.offset + 7)).toBe("content");
});

test("readTar reads base-256 numbers", async () => {
	const data = await tar([{ name: "a", data: "" }]);
	data.fill(0, 108, 116);
	data[108] = 0x80;
	data.writeUInt32BE(3_000_000_000, 112);
	data.fill(0x20, 148, 156);
	const sum = data.subarray(0, 512).reduce((total, byte) => total + byte, 0);
	data.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
	expect(read(data)[0]!.uid).toBe(3_000_000_000);
});

test("readTar says where an archive is damaged or cut off", async () => {
	const data = await tar([{ name: "a", data: "x".repeat(2000) }]);
	expect(() => read(data.subarray(0, 1000))).toThrow(/cut off within the member at byte 0/);
	expect(() => read(data.subarray(0, 300))).toThrow(/ends within a header/);
	const bad = Buffer.from(data);
	bad[0]! ^= 1;
	expect(() => read(bad)).toThrow(/damaged tar header at byte 0/);
});

test("looksLikeTar knows an empty archive and refuses other files", () => {
	const look = (data: Buffer) => {
		const fd = openSync(directory.file("x", data), "r");
		try {
			return looksLikeTar({ fd, start: 0, size: data.length });
		} finally {
			closeSync(fd);
		}
	};
	expect(look(Buffer.alloc(1024))).toBe(true);
	expect(look(Buffer.from("#!/bin/sh\n".repeat(100)))).toBe(false);
	expect(look(Buffer.alloc(100))).toBe(false);
});

test("readTar answers random damage with an ImageError and nothing else", async () => {
	const good = await tar([
		{ name: "n".repeat(150), data: "x", pax: { "SCHILY.xattr.user.a": "b", mtime: "1.5" } },
		{ name: "dev", type: "character-device", devmajor: 1, devminor: 2 },
		{ name: "b", data: "y".repeat(600) },
	]);
	let seed = 12345;
	const random = (below: number) => {
		seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
		return (seed >>> 8) % below;
	};
	let refused = 0;
	for (let round = 0; round < 200; round++) {
		const data = Buffer.from(good.subarray(0, random(4) === 0 ? random(good.length) : good.length));
		for (let i = 0; i < 3 && data.length > 0; i++) data[random(data.length)] = random(256);
		/* Mend the checksums, so that the damage gets past them. */
		for (let at = 0; at + 512 <= data.length; at += 512) {
			if (data.toString("latin1", at + 257, at + 262) !== "ustar") continue;
			data.fill(0x20, at + 148, at + 156);
			const sum = data.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
			data.write(`${sum.toString(8).padStart(6, "0")}\0 `, at + 148);
		}
		try {
			read(data);
		} catch (error) {
			expect(error).toBeInstanceOf(ImageError);
			refused++;
		}
	}
	expect(refused).toBeGreaterThan(10);
});
