/*
 * The I/O ring where the host refuses, interrupts, or never ends what it was asked for.
 */
import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Segments } from "../../src/base/segments.ts";
import { IoRing } from "../../src/host/io-ring.ts";
import { GuestRam } from "../../src/host/ram.ts";
import { runWithFaults } from "./faults.ts";

describe("IoRing", () => {
	it("submit offers again what the host does not take now, and leaves the event loop to others", () => {
		const printed = runWithFaults(`
			const ring = ringOf();
			for (const token of [1, 2, 3]) bytes.fill(token, token * 4096, (token + 1) * 4096);
			fault("REFUSE_ENTER", 11); /* EAGAIN */
			for (const token of [1, 2, 3]) ring.writev(token, fd, token * 4096, segments(token * 4096, 4096));
			ring.submit();
			/* Its iovecs come after those of requests that wait. */
			ring.writev(4, fd, 0, segments(4096, 100));
			ring.submit();
			await sleep(30);
			print([results, ring.inFlight]);
			fault("REFUSE_ENTER", 16); /* EBUSY */
			await sleep(10);
			fault("REFUSE_ENTER", 0);
			await until(() => Object.keys(results).length === 4);
			const file = readFileSync(path);
			print([results, ring.inFlight, [0, 99, 100, 4096, 8191, 8192, 12288, 16383, 16384].map((at) => file[at])]);
			await ring.close();
		`);
		expect(printed).toEqual([
			[{}, 4],
			[{ 1: 4096, 2: 4096, 3: 4096, 4: 100 }, 0, [1, 1, 0, 1, 1, 2, 3, 3, 0]],
		]);
	});

	it("submit does each request once when the host takes a batch in parts", () => {
		const printed = runWithFaults(`
			const ring = ringOf();
			for (let i = 0; i < 8; i++) bytes.fill(i + 1, i * 512, (i + 1) * 512);
			fault("TAKE_AT_MOST", 3);
			for (let i = 0; i < 8; i++) ring.writev(i, fd, i * 512, segments(i * 512, 512));
			ring.submit();
			print(ring.inFlight >= 5);
			fault("REFUSE_ENTER", 0);
			await until(() => Object.keys(results).length === 8);
			const file = readFileSync(path);
			print([ring.inFlight, Array.from({ length: 9 }, (_, i) => file[i * 512 + 511])]);
			await ring.close();
		`);
		expect(printed).toEqual([true, [0, [1, 2, 3, 4, 5, 6, 7, 8, 0]]]);
	});

	it("submit fails a batch that the host refuses for good, and none of it is done by a later one", () => {
		const printed = runWithFaults(`
			const ring = ringOf();
			bytes.fill(1, 0, 4096).fill(2, 4096, 8192);
			fault("REFUSE_ENTER", 14); /* EFAULT */
			ring.writev(1, fd, 0, segments(0, 4096));
			ring.writev(2, fd, 8192, segments(0, 4096));
			ring.submit();
			print(results);
			fault("REFUSE_ENTER", 0);
			ring.writev(3, fd, 4096, segments(4096, 4096));
			ring.submit();
			await until(() => 3 in results);
			await sleep(20);
			const file = readFileSync(path);
			print([results, ring.inFlight, [0, 4096, 8191, 8192].map((at) => file[at])]);
			await ring.close();
		`);
		expect(printed).toEqual([{ 1: -14, 2: -14 }, [{ 1: -14, 2: -14, 3: 4096 }, 0, [0, 2, 2, 0]]]);
	});

	it("answers within submit, in order, up to the first request that would wait, and the rest later", () => {
		const printed = runWithFaults(`
			const ring = ringOf({ forceThreads: true, when: "if-cached" });
			writeSync(fd, Buffer.alloc(4096, 7), 0, 4096, 0);
			fault("NOWAIT_WRITE", 11); /* EAGAIN */
			bytes.fill(9, 8192, 12288);
			ring.readv(1, fd, 0, segments(0, 4096));
			ring.readv(2, fd, 2048, segments(4096, 2048));
			ring.writev(3, fd, 8192, segments(8192, 4096));
			ring.readv(4, fd, 0, segments(12288, 4096));
			ring.submit();
			print([Object.keys(results), ring.inFlight, bytes[4095], bytes[6143]]);
			await until(() => ring.inFlight === 0);
			print([results, bytes[16383], readFileSync(path)[12287]]);
			fault("NOWAIT_READ", 11);
			ring.readv(5, fd, 8192, segments(0, 4096));
			ring.submit();
			print(5 in results);
			await until(() => 5 in results);
			print([results[5], bytes[0]]);
			await ring.close();
		`);
		expect(printed).toEqual([[["1", "2"], 2, 7, 7], [{ 1: 4096, 2: 2048, 3: 4096, 4: 4096 }, 7, 9], false, [4096, 9]]);
	});

	it("asks a file system that does not know RWF_NOWAIT once", () => {
		const printed = runWithFaults(`
			const ring = ringOf({ when: "if-cached" });
			fault("NOWAIT_READ", 95); /* EOPNOTSUPP */
			for (const token of [1, 2, 3]) {
				ring.readv(token, fd, 0, segments(0, 4096));
				ring.submit();
				await until(() => token in results);
			}
			print([results, nowaitCalls()]);
			await ring.close();
		`);
		expect(printed).toEqual([[{ 1: 4096, 2: 4096, 3: 4096 }, 1]]);
	});

	it("keeps the order of what the host refuses after it has answered some", () => {
		const printed = runWithFaults(`
			const ring = ringOf({ when: "if-cached" });
			fault("NOWAIT_WRITE", 11);
			fault("REFUSE_ENTER", 11);
			bytes.fill(1, 0, 512).fill(2, 512, 1024);
			ring.readv(0, fd, 0, segments(4096, 512));
			ring.writev(1, fd, 0, segments(0, 512));
			ring.writev(2, fd, 512, segments(512, 512));
			ring.submit();
			print([results, ring.inFlight]);
			fault("REFUSE_ENTER", 0);
			await until(() => ring.inFlight === 0);
			print([results, readFileSync(path)[0], readFileSync(path)[1023]]);
			await ring.close();
		`);
		expect(printed).toEqual([
			[{ 0: 512 }, 2],
			[{ 0: 512, 1: 512, 2: 512 }, 1, 2],
		]);
	});

	it("close by io_uring gives up a write that does not end, and keeps the memory that it may touch", async () => {
		const { fd, remove } = fifo();
		const ram = GuestRam.map([{ gpa: 0, sizeBytes: 1 << 20 }], { backing: "memfd" });
		const { buffer } = ram.regions[0]!;
		const list = segmentsOf(ram);
		list.bytes(0).fill(7);
		const told: number[] = [];
		const ring = new IoRing((token) => told.push(token), { closeMs: 50 });
		expect(ring.engine).toBe("io_uring");
		writeSync(fd, Buffer.alloc(FIFO_BYTES));
		ring.writev(1, fd, 0, list);
		ring.submit();
		let turns = 0;
		const turning = setInterval(() => turns++, 1);
		await ring.close();
		clearInterval(turning);
		expect(turns).toBeGreaterThan(0);
		ram.close();
		expect(buffer.byteLength).toBe(0);
		expect(mapped()).toBe(true);
		const found = Buffer.alloc(4096);
		readSync(fd, Buffer.alloc(FIFO_BYTES), 0, FIFO_BYTES, null);
		/* The write has ended: it had the memory that it was for, which is given back only now. */
		await expect.poll(mapped).toBe(false);
		readSync(fd, found, 0, found.length, null);
		expect([found.every((byte) => byte === 7), told]).toEqual([true, []]);
		remove();
	});

	it("close by io_uring cancels a read that would not end, and gives its memory back", async () => {
		const { fd, remove } = fifo();
		const ram = GuestRam.map([{ gpa: 0, sizeBytes: 1 << 20 }], { backing: "memfd" });
		const told: number[] = [];
		const ring = new IoRing((token) => told.push(token));
		expect(ring.engine).toBe("io_uring");
		const list = segmentsOf(ram);
		for (let token = 0; token < 100; token++) ring.readv(token, fd, 0, list);
		ring.submit();
		expect(ring.inFlight).toBe(100);
		await ring.close();
		expect(ring.inFlight).toBe(0);
		ram.close();
		await expect.poll(mapped).toBe(false);
		expect(told).toEqual([]);
		remove();
	});

	it("close by threads cancels reads that none has begun, and has writes done", () => {
		const printed = runWithFaults(`
			const ring = ringOf({ forceThreads: true });
			fault("HOLD_PREADV", 1);
			for (let i = 0; i < 10; i++) ring.readv(i, fd, 0, segments(4096, 4096));
			bytes.fill(7, 0, 4096);
			ring.writev(10, fd, 0, segments(0, 4096));
			ring.submit();
			await until(() => preadvCalls() === 4); /* as many as libuv has threads */
			const closed = ring.close();
			fault("HOLD_PREADV", 0);
			await closed;
			print([preadvCalls(), readFileSync(path)[4095], results]);
		`);
		expect(printed).toEqual([[4, 7, {}]]);
	});

	it("close by threads takes back what none has begun, and keeps the memory of what has", () => {
		const printed = runWithFaults(`
			const ring = ringOf({ forceThreads: true, closeMs: 50 });
			fault("HOLD_PREADV", 1);
			for (let i = 0; i < 10; i++) ring.readv(i, fd, 0, segments(i * 4096, 4096));
			ring.submit();
			await until(() => preadvCalls() === 4); /* as many as libuv has threads */
			await ring.close();
			closeSync(fd);
			ram.close();
			await sleep(20);
			print([mapped(), results]);
			fault("HOLD_PREADV", 0);
			await until(() => !mapped());
			print([preadvCalls(), results]);
		`);
		expect(printed).toEqual([
			[true, {}],
			[4, {}],
		]);
	});
});

describe("FileDisk", () => {
	it("repeats a flush, a discard and a write of zeroes that a signal has interrupted", () => {
		const printed = runWithFaults(`
			closeSync(fd);
			const disk = FileDisk.open(path, { forceThreads: true });
			disk.start((token, result) => { results[token] = result; });
			fault("INTERRUPT_SYNC", 3);
			fault("INTERRUPT_FALLOCATE", 7);
			disk.flush(1);
			disk.discard(2, 0, 4096);
			disk.writeZeroes(3, 4096, 4096, true);
			disk.writeZeroes(4, 8192, 4096, false);
			disk.submit();
			await until(() => Object.keys(results).length === 4);
			print([results, left("INTERRUPT_SYNC"), left("INTERRUPT_FALLOCATE")]);
			await disk.close();
		`);
		expect(printed).toEqual([[{ 1: "ok", 2: "ok", 3: "ok", 4: "ok" }, 0, 0]]);
	});
});

/** What a pipe holds. */
const FIFO_BYTES = 65_536;

/** A FIFO that is open at both ends. */
function fifo(): { fd: number; remove: () => void } {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-io-faults-"));
	const path = join(directory, "fifo");
	execFileSync("mkfifo", [path]);
	const fd = openSync(path, "r+");
	const remove = () => {
		closeSync(fd);
		rmSync(directory, { recursive: true });
	};
	return { fd, remove };
}

/** The second page of the RAM. */
function segmentsOf(ram: GuestRam): Segments {
	const { hva, buffer } = ram.regions[0]!;
	const list = new Segments();
	list.add({ bytes: new Uint8Array(buffer), hva }, 4096, 4096);
	return list;
}

const mapped = () => readFileSync("/proc/self/maps", "latin1").includes("memfd:tsvmm-ram");
