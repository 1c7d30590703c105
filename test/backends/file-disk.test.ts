import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { FileDisk, type FileDiskOptions } from "../../src/backends/file-disk.ts";
import { setLogLevel } from "../../src/base/log.ts";
import type { ByteSource } from "../../src/base/segments.ts";
import { GuestRam } from "../../src/host/ram.ts";
import { Answers, blockSuite, numbered, segmentsOf } from "./block-suite.ts";

setLogLevel("error");
const directory = mkdtempSync(join(tmpdir(), "tsvmm-file-disk-"));
/** A tmpfs punches holes, but zeroes no ranges. */
const tmpfs = mkdtempSync("/dev/shm/tsvmm-file-disk-");
afterAll(() => {
	rmSync(directory, { recursive: true });
	rmSync(tmpfs, { recursive: true });
});

const opened: { close(): unknown }[] = [];
afterEach(async () => {
	for (const one of opened.splice(0).reverse()) await one.close();
});

let names = 0;
function image(content: Uint8Array, where = directory): string {
	const path = join(where, `${names++}.img`);
	writeFileSync(path, content);
	return path;
}

function open(path: string, options: FileDiskOptions = {}): FileDisk {
	const disk = FileDisk.open(path, options);
	opened.push(disk);
	return disk;
}

function memory(sizeBytes: number): ByteSource {
	const ram = GuestRam.map([{ gpa: 0, sizeBytes: Math.ceil(sizeBytes / 4096) * 4096 }]);
	opened.unshift(ram);
	const { hva, buffer } = ram.regions[0]!;
	return { hva, bytes: new Uint8Array(buffer) };
}

describe.each([
	{ name: "FileDisk", where: directory, options: {} },
	{ name: "FileDisk with threads", where: directory, options: { forceThreads: true } },
	{ name: "FileDisk on tmpfs", where: tmpfs, options: {} },
	{ name: "FileDisk without the page cache", where: directory, options: { direct: true } },
])("$name", ({ name, where, options }) => {
	blockSuite({
		name,
		make: async (content) => {
			const path = image(content, where);
			return { disk: open(path, options), content: () => new Uint8Array(readFileSync(path)) };
		},
		memory,
	});
});

describe("FileDisk", () => {
	test("forceThreads uses threads", () => {
		expect(open(image(numbered(1)), { forceThreads: true }).engine).toBe("threads");
	});

	test("without the page cache moves buffers at any address, more of them at once than it has buffers for that", async () => {
		const disk = open(image(new Uint8Array(1 << 20)), { direct: true });
		const answers = new Answers(disk);
		const ram = memory(4 << 20);
		const parts = Array.from({ length: 32 }, (_, i): [number, number] => [i * 65_536 + 1 + i, 32_768]);
		for (const [i, [at, length]] of parts.entries()) {
			ram.bytes.fill(i + 1, at, at + length);
			disk.write(i, i * 32_768, segmentsOf(ram, [at, 8], [at + 8, length - 8]));
		}
		disk.submit();
		expect(new Set(await answers.of(...parts.keys()))).toEqual(new Set(["ok"]));
		ram.bytes.fill(0);
		disk.read(1, 0, segmentsOf(ram, [3, 1 << 20]));
		disk.submit();
		expect(await answers.of(1)).toEqual(["ok"]);
		expect(ram.bytes[2]).toBe(0);
		for (const i of parts.keys())
			expect(ram.bytes.subarray(3 + i * 32_768, 3 + (i + 1) * 32_768).every((byte) => byte === i + 1)).toBe(true);
	});

	test("refuses to leave out the page cache where the file system does not support that", () => {
		const refused = { code: "ERR_DISK_DIRECT", hint: expect.stringContaining("direct=on") };
		expect(() => open("/proc/version", { direct: true, readOnly: true })).toThrowError(
			expect.objectContaining(refused),
		);
	});

	test("punches real holes for discard", async () => {
		const path = image(numbered(2048, 1), tmpfs);
		const disk = open(path);
		const answers = new Answers(disk);
		const before = statSync(path).blocks;
		disk.discard(1, 0, 1 << 20);
		disk.submit();
		expect(await answers.of(1)).toEqual(["ok"]);
		expect(statSync(path).blocks).toBeLessThan(before / 2);
		expect(statSync(path).size).toBe(1 << 20);
	});

	test("answers io when the file was cut short under it, and recovers when it is whole again", async () => {
		const path = image(numbered(16));
		const disk = open(path);
		const answers = new Answers(disk);
		const ram = memory(8192);
		truncateSync(path, 4 * 512);
		disk.read(1, 8 * 512, segmentsOf(ram, [0, 512]));
		disk.read(2, 2 * 512, segmentsOf(ram, [0, 4 * 512]));
		disk.submit();
		expect(await answers.of(1, 2)).toEqual(["io", "io"]);
		truncateSync(path, 16 * 512);
		disk.read(1, 8 * 512, segmentsOf(ram, [0, 512]));
		disk.submit();
		expect(await answers.of(1)).toEqual(["ok"]);
	});

	test("answers neighbours of a batch one by one, and io only to those that the host cannot do", async () => {
		const path = image(numbered(64));
		const disk = open(path);
		const answers = new Answers(disk);
		const ram = memory(64 * 512);
		truncateSync(path, 40 * 512);
		for (let i = 0; i < 8; i++) disk.read(i, i * 4096, segmentsOf(ram, [(7 - i) * 4096, 4096]));
		disk.submit();
		expect(await answers.of(0, 1, 2, 3, 4, 5, 6, 7)).toEqual([...Array(5).fill("ok"), ...Array(3).fill("io")]);
		const whole = numbered(64);
		for (let i = 0; i < 5; i++)
			expect(ram.bytes.slice((7 - i) * 4096, (8 - i) * 4096)).toEqual(whole.slice(i * 4096, (i + 1) * 4096));
		/* Neighbours, but the second one is another operation. */
		ram.bytes.fill(0xee);
		disk.write(0, 0, segmentsOf(ram, [0, 512]));
		disk.write(1, 512, segmentsOf(ram, [512, 512]));
		disk.read(2, 1024, segmentsOf(ram, [1024, 512]));
		disk.submit();
		expect(await answers.of(0, 1, 2)).toEqual(["ok", "ok", "ok"]);
		expect(
			readFileSync(path)
				.subarray(0, 1024)
				.every((byte) => byte === 0xee),
		).toBe(true);
		expect(ram.bytes.slice(1024, 1536)).toEqual(whole.slice(1024, 1536));
	});

	test("answers io to a read into memory that is not there", async () => {
		const disk = open(image(numbered(16)));
		const answers = new Answers(disk);
		disk.read(1, 0, segmentsOf({ hva: 0, bytes: new Uint8Array(512) }, [0, 512]));
		disk.submit();
		expect(await answers.of(1)).toEqual(["io"]);
	});

	test("answers io to a write on a file opened for reading", async () => {
		const disk = open(image(numbered(16)), { readOnly: true });
		expect(disk.readOnly).toBe(true);
		const answers = new Answers(disk);
		disk.write(1, 0, segmentsOf(memory(4096), [0, 512]));
		disk.writeZeroes(2, 0, 512, false);
		disk.submit();
		expect(await answers.of(1, 2)).toEqual(["io", "io"]);
	});

	test("does not use the last bytes when they are no whole sector", () => {
		expect(open(image(new Uint8Array(1300))).sizeBytes).toBe(1024);
	});

	test.each([0, 511])("refuses a file of %i bytes", (size) => {
		expect(() => open(image(new Uint8Array(size)))).toThrowError(expect.objectContaining({ code: "ERR_DISK_SIZE" }));
	});

	test("refuses what is no file, with the reason", () => {
		const fifo = join(directory, "fifo");
		execFileSync("mkfifo", [fifo]);
		const cases = [
			[join(directory, "missing.img"), "no such file or directory"],
			[directory, "it is a directory"],
			[fifo, "it is neither a file nor a block device"],
			["/dev/null", "it is neither a file nor a block device"],
		] as const;
		for (const [path, reason] of cases) {
			expect(() => open(path)).toThrowError(
				expect.objectContaining({ code: "ERR_DISK_OPEN", message: `Cannot open disk ${path}: ${reason}` }),
			);
		}
	});

	test("refuses a second writer, and a writer besides readers, but not a second reader", async () => {
		const path = image(numbered(2));
		const locked = expect.objectContaining({ code: "ERR_DISK_LOCKED" });
		const writer = FileDisk.open(path);
		expect(() => open(path)).toThrowError(locked);
		expect(() => open(path, { readOnly: true })).toThrowError(locked);
		await writer.close();
		open(path, { readOnly: true });
		open(path, { readOnly: true });
		expect(() => open(path)).toThrowError(locked);
	});

	test("hints at ,ro when it may not write", () => {
		const path = image(numbered(2), tmpfs);
		chmodSync(path, 0o444);
		chmodSync(tmpfs, 0o755);
		/* root may write everything */
		const root = process.getuid?.() === 0;
		if (root) process.seteuid?.(65534);
		try {
			expect(() => open(path)).toThrowError(expect.objectContaining({ hint: expect.stringContaining(",ro") }));
			expect(open(path, { readOnly: true }).sizeBytes).toBe(1024);
		} finally {
			if (root) process.seteuid?.(0);
		}
	});

	test("answers io when the host's disk is full, and goes on reading", async () => {
		/* A limit on file size is as good as a full disk: the first half of the write still fits. */
		const path = image(numbered(256));
		const program = `
			import { FileDisk } from ${JSON.stringify(join(import.meta.dirname, "../../src/backends/file-disk.ts"))};
			import { GuestRam } from ${JSON.stringify(join(import.meta.dirname, "../../src/host/ram.ts"))};
			import { Segments } from ${JSON.stringify(join(import.meta.dirname, "../../src/base/segments.ts"))};
			process.on("SIGXFSZ", () => undefined);
			const disk = FileDisk.open(${JSON.stringify(path)});
			const ram = GuestRam.map([{ gpa: 0, sizeBytes: 4096 }]).regions[0];
			const list = new Segments();
			for (let i = 0; i < 2; i++) list.add({ hva: ram.hva, bytes: new Uint8Array(ram.buffer) }, 0, 4096);
			const out = [];
			disk.start((token, result) => { out.push(token + result); if (out.length === 2) console.log(out.sort().join()); });
			disk.write(1, 60 * 1024, list);
			disk.read(2, 0, list);
			disk.submit();`;
		const shell = `ulimit -f 64; exec "$0" --import tsx --input-type=module`;
		const env = { ...process.env, TSX_DISABLE_CACHE: "1" };
		const out = execFileSync("bash", ["-c", shell, process.execPath], { input: program, encoding: "utf8", env });
		expect(out.trim()).toBe("1io,2ok");
	});
});
