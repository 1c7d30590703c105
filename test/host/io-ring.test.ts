/*
 * The I/O engine against real files, both of its implementations by the same suite.
 */

import { execFileSync } from "node:child_process";
import {
	closeSync,
	ftruncateSync,
	mkdtempSync,
	openSync,
	readFileSync,
	rmSync,
	statSync,
	writeFileSync,
	writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Segments } from "../../src/base/segments.ts";
import { IoRing, type IoRingOptions } from "../../src/host/io-ring.ts";
import { GuestRam } from "../../src/host/ram.ts";

const RAM_BYTES = 4 << 20;
let directory: string;
let ram: GuestRam;
let bytes: Uint8Array;

beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-io-"));
	ram = GuestRam.map([{ gpa: 0, sizeBytes: RAM_BYTES }]);
	bytes = new Uint8Array(ram.regions[0]!.buffer);
});
afterEach(() => {
	ram.close();
	rmSync(directory, { recursive: true, force: true });
});

function segments(...ranges: [start: number, length: number][]): Segments {
	const list = new Segments();
	const source = { bytes, hva: ram.regions[0]!.hva };
	for (const [start, length] of ranges) list.add(source, start, length);
	return list;
}

/** A ring whose completions can be awaited. */
class Ring {
	readonly results = new Map<number, number>();
	readonly ring: IoRing;
	#wake: (() => void) | undefined;

	constructor(options: IoRingOptions) {
		this.ring = new IoRing((token, result) => {
			this.results.set(token, result);
			this.#wake?.();
		}, options);
	}

	/** Submits and waits until `count` completions are there. */
	async run(count: number): Promise<Map<number, number>> {
		this.ring.submit();
		while (this.results.size < count) {
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
		return this.results;
	}
}

describe.each([
	["io_uring", "later", false],
	["io_uring", "if-cached", false],
	["threads", "later", true],
	["threads", "if-cached", true],
	["threads", "at-once", true],
] as const)("IoRing by %s, %s", (engine, when, forceThreads) => {
	function opened(entries = 64): Ring {
		const ring = new Ring({ entries, forceThreads, when });
		expect(ring.ring.engine).toBe(engine);
		return ring;
	}

	it("writes and reads back over several segments", async () => {
		const file = join(directory, "disk");
		const fd = openSync(file, "w+");
		const ring = opened();
		for (let i = 0; i < 8192; i++) bytes[i] = i % 251;
		ring.ring.writev(1, fd, 4096, segments([0, 1000], [1000, 24], [1024, 7168]));
		expect([...(await ring.run(1))]).toEqual([[1, 8192]]);
		expect(readFileSync(file).subarray(4096)).toEqual(Buffer.from(bytes.subarray(0, 8192)));
		ring.results.clear();
		ring.ring.readv(2, fd, 4096, segments([100_000, 8000], [300_000, 192]));
		expect([...(await ring.run(1))]).toEqual([[2, 8192]]);
		expect(bytes.slice(100_000, 108_000)).toEqual(bytes.slice(0, 8000));
		expect(bytes.slice(300_000, 300_192)).toEqual(bytes.slice(8000, 8192));
		ring.ring.close();
		closeSync(fd);
	});

	it("reports a short read at the end of the file as it is", async () => {
		const fd = openSync(join(directory, "disk"), "w+");
		writeSync(fd, Buffer.alloc(1000, 7));
		const ring = opened();
		ring.ring.readv(5, fd, 512, segments([0, 4096]));
		ring.ring.readv(6, fd, 4096, segments([8192, 4096]));
		const results = await ring.run(2);
		expect(results.get(5)).toBe(488);
		expect(results.get(6)).toBe(0);
		ring.ring.close();
		closeSync(fd);
	});

	it("reports errors as negative errnos", async () => {
		const file = join(directory, "disk");
		writeFileSync(file, "x");
		const fd = openSync(file, "r");
		const ring = opened();
		ring.ring.writev(1, fd, 0, segments([0, 512]));
		ring.ring.readv(2, 99_999, 0, segments([0, 512]));
		const many = segments();
		for (let i = 0; i < 1025; i++) many.add({ bytes, hva: ram.regions[0]!.hva }, i * 512, 512);
		ring.ring.readv(3, fd, 0, many);
		const results = await ring.run(3);
		expect(results.get(1)).toBe(-9); /* EBADF: not open for writing */
		expect(results.get(2)).toBe(-9);
		expect(results.get(3)).toBe(-22); /* EINVAL: more than IOV_MAX */
		ring.ring.close();
		closeSync(fd);
	});

	it("flushes, punches holes and zeroes ranges", async () => {
		const file = join(directory, "disk");
		writeFileSync(file, Buffer.alloc(1 << 20, 0xaa));
		const fd = openSync(file, "r+");
		const ring = opened();
		ring.ring.fsync(1, fd);
		await ring.run(1);
		const before = statSync(file).blocks;
		ring.ring.punchHole(2, fd, 65_536, 262_144);
		ring.ring.zeroRange(3, fd, 524_288, 4096);
		const results = await ring.run(3);
		expect(results.get(1)).toBe(0);
		expect(results.get(2)).toBe(0);
		/* A tmpfs knows no zero range, older ones no hole: the errno says so, and the caller writes zeroes instead. */
		expect([0, -95]).toContain(results.get(3));
		const data = readFileSync(file);
		expect(data.length).toBe(1 << 20);
		expect(data.subarray(65_536, 65_536 + 262_144).every((b) => b === 0)).toBe(true);
		expect(data[65_535]).toBe(0xaa);
		expect(statSync(file).blocks).toBeLessThan(before);
		if (results.get(3) === 0) expect(data.subarray(524_288, 528_384).every((b) => b === 0)).toBe(true);
		ring.ring.close();
		closeSync(fd);
	});

	it("takes more requests and segments than fit at once", async () => {
		const fd = openSync(join(directory, "disk"), "w+");
		ftruncateSync(fd, 1 << 20);
		const ring = opened(16);
		const list: [number, number][] = [];
		for (let i = 0; i < 1024; i++) list.push([i * 4, 4]);
		for (let i = 0; i < 4096; i++) bytes[i] = (i * 7) & 0xff;
		for (let token = 0; token < 100; token++) ring.ring.writev(token, fd, token * 4096, segments(...list));
		const results = await ring.run(100);
		expect(new Set(results.values())).toEqual(new Set([4096]));
		expect(ring.ring.inFlight).toBe(0);
		const data = readFileSync(join(directory, "disk"));
		for (let token = 0; token < 100; token++) {
			expect(Buffer.compare(data.subarray(token * 4096, (token + 1) * 4096), bytes.subarray(0, 4096))).toBe(0);
		}
		ring.ring.close();
		closeSync(fd);
	});

	it("takes more from inside a completion, and can be closed there", async () => {
		const fd = openSync(join(directory, "disk"), "w+");
		let rounds = 0;
		await new Promise<void>((resolve) => {
			const ring = new IoRing(
				() => {
					if (++rounds === 50) {
						ring.close();
						resolve();
						return;
					}
					ring.writev(0, fd, rounds * 512, segments([0, 512]));
					ring.submit();
				},
				{ entries: 4, forceThreads, when },
			);
			ring.writev(0, fd, 0, segments([0, 512]));
			ring.submit();
		});
		expect(rounds).toBe(50);
		closeSync(fd);
	});

	it("close drops what was not submitted", async () => {
		const fd = openSync(join(directory, "disk"), "w+");
		const ring = opened();
		ring.ring.writev(1, fd, 0, segments([0, 4096]));
		await ring.ring.close();
		expect([statSync(join(directory, "disk")).size, ring.ring.inFlight, ring.results.size]).toEqual([0, 0, 0]);
		closeSync(fd);
	});

	it("close waits for what is in flight and tells nothing afterwards", async () => {
		const fd = openSync(join(directory, "disk"), "w+");
		const ring = opened();
		for (let i = 0; i < 20; i++) ring.ring.writev(i, fd, i << 20, segments([0, 1 << 20]));
		ring.ring.submit();
		const told = ring.results.size;
		await ring.ring.close();
		expect(statSync(join(directory, "disk")).size).toBe(20 << 20);
		await new Promise((resolve) => setTimeout(resolve, 20));
		expect(ring.results.size).toBe(told);
		ring.ring.submit();
		await ring.ring.close();
		closeSync(fd);
	});
});

describe("IoRing by io_uring", () => {
	it("nudges the kernel when nothing completes, and tells nobody of it", async () => {
		const fifo = join(directory, "fifo");
		execFileSync("mkfifo", [fifo]);
		const fd = openSync(fifo, "r+");
		const { ring, results } = new Ring({});
		ring.readv(7, fd, 0, segments([0, 4096]));
		ring.submit();
		await new Promise((resolve) => setTimeout(resolve, 2500));
		expect(results.size).toBe(0);
		expect(ring.inFlight).toBe(1);
		writeSync(fd, "late");
		await expect.poll(() => [...results]).toEqual([[7, 4]]);
		expect(ring.inFlight).toBe(0);
		ring.close();
		closeSync(fd);
	});
});
