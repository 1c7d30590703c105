import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { describe, expect, test } from "vitest";
import type { BlockBackend } from "../../../src/backends/contract.ts";
import { formatOf, openDisk } from "../../../src/backends/open-disk.ts";
import { backingFiles } from "../../../src/backends/qcow2/open.ts";
import { setLogLevel } from "../../../src/base/log.ts";
import { Answers, difference, numbered, segmentsOf } from "../block-suite.ts";
import { fresh, image, memory, open, overlay, raw } from "./images.ts";
import { check, contentOf, qemuImg } from "./qemu-img.ts";

setLogLevel("error");
const SIZE = 256 << 10;
const code = (name: string) => expect.objectContaining({ code: name });

async function write(disk: BlockBackend, at: number, bytes: Uint8Array): Promise<void> {
	const ram = memory(bytes.length);
	ram.bytes.set(bytes);
	const answers = new Answers(disk);
	disk.write(0, at, segmentsOf(ram, [0, bytes.length]));
	disk.submit();
	expect(await answers.of(0)).toEqual(["ok"]);
}

async function read(disk: BlockBackend, at: number, length: number): Promise<Uint8Array> {
	const ram = memory(length);
	const answers = new Answers(disk);
	disk.read(0, at, segmentsOf(ram, [0, length]));
	disk.submit();
	expect(await answers.of(0)).toEqual(["ok"]);
	return ram.bytes.slice(0, length);
}

describe("openQcow2", () => {
	test("reads and writes the top of a chain, whose names begin at the image that has them", async () => {
		const content = numbered(SIZE / 512);
		const base = raw(content);
		const [middle, top] = [fresh(".qcow2"), fresh(".qcow2")];
		qemuImg("create", "-q", "-f", "qcow2", "-b", basename(base), "-F", "raw", middle);
		qemuImg("create", "-q", "-f", "qcow2", "-b", basename(middle), "-F", "qcow2", top, `${2 * SIZE}`);
		expect(backingFiles(top)).toEqual([middle, base]);
		const below = await open(middle);
		await write(below, 1024, new Uint8Array(512).fill(7));
		await below.close();
		content.fill(7, 1024, 1536);
		const disk = await open(top);
		await write(disk, SIZE - 512, new Uint8Array(1024).fill(9));
		content.fill(9, SIZE - 512);
		expect(difference(await read(disk, 0, SIZE), content)).toBe(-1);
		expect(await read(disk, SIZE, 1024)).toEqual(new Uint8Array(1024).fill(9, 0, 512));
		/* Several machines may have one base. */
		await expect(open(middle)).rejects.toThrowError(code("ERR_DISK_LOCKED"));
		await (await open(middle, { readOnly: true })).close();
		await disk.close();
		expect(check(top)).toEqual({ corruptions: 0, leaks: 0 });
	});

	test("leaves snapshots in the image as they are", async () => {
		const content = numbered(SIZE / 512);
		const path = image(content, "-o", "cluster_size=4k");
		qemuImg("snapshot", "-c", "before", path);
		const disk = await open(path);
		await write(disk, 5000 * 8 - (40_000 % 512), new Uint8Array(20 * 512).fill(3));
		await disk.close();
		expect(check(path)).toEqual({ corruptions: 0, leaks: 0 });
		expect(difference(contentOf(path), content)).not.toBe(-1);
		qemuImg("snapshot", "-a", "before", path);
		expect(difference(contentOf(path), content)).toBe(-1);
	});

	test("writes to clusters that qemu-img has allocated without data", async () => {
		const path = fresh(".qcow2");
		qemuImg("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, `${SIZE}`);
		const disk = await open(path);
		await write(disk, 70_656, new Uint8Array(512).fill(1));
		await disk.close();
		expect(check(path)).toEqual({ corruptions: 0, leaks: 0 });
		expect(difference(contentOf(path), new Uint8Array(SIZE).fill(1, 70_656, 71_168))).toBe(-1);
	});

	test.each([
		["-o", "extended_l2=on"],
		["-o", "data_file=DATA"],
	])("refuses an image made with %s %s", async (...options) => {
		const path = fresh(".qcow2");
		const words = options.map((word) => word.replace("DATA", `${path}.data`));
		qemuImg("create", "-q", ...words, "-f", "qcow2", path, "1M");
		await expect(open(path)).rejects.toThrowError(code("ERR_QCOW2_FEATURE"));
	});

	test.each([
		{ what: "was not closed", bit: 1 },
		{ what: "is marked as corrupt", bit: 2 },
	])("only reads an image that $what", async ({ what, bit }) => {
		const path = image(numbered(8));
		const bytes = readFileSync(path);
		bytes[79]! |= bit;
		writeFileSync(path, bytes);
		await expect(open(path)).rejects.toThrowError(code("ERR_QCOW2_DIRTY"));
		await expect(open(path)).rejects.toThrowError(what);
		expect((await open(path, { readOnly: true })).sizeBytes).toBe(4096);
	});

	test("refuses an unknown feature and encryption, and drops what other programs keep up to date", async () => {
		const path = image(numbered(8));
		const bytes = readFileSync(path);
		bytes[74] = 1;
		writeFileSync(path, bytes);
		await expect(open(path)).rejects.toThrowError(code("ERR_QCOW2_FEATURE"));
		bytes[74] = 0;
		/* crypt_method */
		bytes[35] = 1;
		writeFileSync(path, bytes);
		await expect(open(path)).rejects.toThrowError("it is encrypted");
		bytes[35] = 0;
		writeFileSync(path, bytes);
		qemuImg("bitmap", "--add", path, "changes");
		setLogLevel("error");
		await (await open(path, { readOnly: true })).close();
		expect(readFileSync(path)[95]).toBe(1);
		await (await open(path)).close();
		expect(readFileSync(path)[95]).toBe(0);
	});

	test("refuses files that are cut short, or are none", async () => {
		const bytes = readFileSync(image(numbered(64)));
		for (const length of [0, 4, 71, 100, 65_536, 131_072]) {
			const path = fresh(".qcow2");
			writeFileSync(path, bytes.subarray(0, length));
			await expect(open(path), `${length} bytes`).rejects.toThrowError(code("ERR_QCOW2_FORMAT"));
		}
		await expect(open(raw(numbered(8)))).rejects.toThrowError(
			expect.objectContaining({ code: "ERR_QCOW2_FORMAT", hint: expect.stringContaining("format=raw") }),
		);
	});

	test("refuses a backing file without a format, of another one, of another kind, or in a circle", async () => {
		const path = overlay(numbered(8));
		/* The extension's type becomes one that nobody knows. */
		const bytes = readFileSync(path);
		const at = bytes.indexOf(Buffer.from([0xe2, 0x79, 0x2a, 0xca]));
		bytes[at] = 0x11;
		writeFileSync(path, bytes);
		await expect(open(path)).rejects.toThrowError(
			expect.objectContaining({ code: "ERR_QCOW2_BACKING", hint: expect.stringContaining("rebase") }),
		);
		const over = (name: string, format: string) => {
			const top = fresh(".qcow2");
			qemuImg("create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", format, top, "1M");
			return top;
		};
		await expect(open(over("base.vmdk", "vmdk"))).rejects.toThrowError(code("ERR_QCOW2_BACKING"));
		await expect(open(over("nbd://host/disk", "raw"))).rejects.toThrowError(code("ERR_QCOW2_BACKING"));
		const missing = over("missing.img", "raw");
		await expect(open(missing)).rejects.toMatchObject({
			code: "ERR_DISK_OPEN",
			message: `Cannot use qcow2 image ${missing} because of its backing file: cannot open disk ${dirname(missing)}/missing.img: no such file or directory`,
		});
		const first = over("first.qcow2", "qcow2");
		copyFileSync(first, `${dirname(first)}/first.qcow2`);
		await expect(open(first, { readOnly: true })).rejects.toThrowError(code("ERR_QCOW2_BACKING"));
	});

	test("answers io once the image has turned out to be corrupt, and says so in it", async () => {
		const path = image(numbered(SIZE / 512), "-o", "cluster_size=4k");
		const bytes = readFileSync(path);
		const l1 = Number(bytes.readBigUInt64BE(40));
		const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n);
		/* The first cluster of the disk is where the refcount table is. */
		bytes.writeBigUInt64BE(bytes.readBigUInt64BE(48) | (1n << 63n), l2);
		writeFileSync(path, bytes);
		const disk = await open(path);
		const answers = new Answers(disk);
		const ram = memory(4096);
		for (const at of [0, 8192]) {
			disk.write(0, at, segmentsOf(ram, [0, 4096]));
			disk.submit();
			expect(await answers.of(0)).toEqual(["io"]);
		}
		disk.read(0, 8192, segmentsOf(ram, [0, 4096]));
		disk.submit();
		expect(await answers.of(0)).toEqual(["ok"]);
		await disk.close();
		await expect(open(path)).rejects.toThrowError(code("ERR_QCOW2_DIRTY"));
	});
});

describe("openDisk", () => {
	test("takes the format from the name, never from the content", async () => {
		expect([formatOf("a.qcow2"), formatOf("a.img"), formatOf("qcow2")]).toEqual(["qcow2", "raw", "raw"]);
		const path = image(numbered(8));
		const copy = fresh(".img");
		copyFileSync(path, copy);
		await expect(openDisk(copy, undefined)).rejects.toThrowError(
			expect.objectContaining({ code: "ERR_DISK_FORMAT", hint: expect.stringContaining("format=qcow2") }),
		);
		const sizes: number[] = [];
		for (const [name, format] of [
			[path, undefined],
			[copy, "raw"],
			[copy, "qcow2"],
		] as const) {
			const disk = await openDisk(name, format);
			sizes.push(disk.sizeBytes);
			await disk.close();
		}
		expect(sizes).toEqual([4096, readFileSync(path).length, 4096]);
	});
});
