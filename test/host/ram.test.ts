/*
 * Guest RAM: windows, addresses, pages, and that nothing can be reached after the unmapping.
 */
import {
	closeSync,
	fstatSync,
	ftruncateSync,
	mkdtempSync,
	openSync,
	readFileSync,
	readSync,
	rmSync,
	writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { HostError } from "../../src/base/errors.ts";
import { GuestMemory } from "../../src/base/guest-memory.ts";
import * as nativeHelper from "../../src/host/native.ts";
import { GuestRam } from "../../src/host/ram.ts";

const GiB = 2 ** 30;
const MiB = 2 ** 20;

/** The lines of /proc/self/smaps about the mapping that begins at `hva`. */
function smaps(hva: number): string {
	const maps = readFileSync("/proc/self/smaps", "latin1").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
	return maps.find((map) => map.startsWith(`${hva.toString(16)}-`)) ?? "";
}

const PAGE = 4096;

/** Files of 64 MiB with data in some pages, for the length of `use`. */
function withFiles(use: (fds: number[]) => void | Promise<void>, ...pages: number[][]): Promise<void> {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-ram-"));
	const fds = pages.map((list, i) => {
		const fd = openSync(join(directory, `${i}`), "w+");
		ftruncateSync(fd, 64 * MiB);
		for (const page of list) writeSync(fd, Buffer.alloc(PAGE, i + 1), 0, PAGE, page * PAGE);
		return fd;
	});
	return Promise.resolve(use(fds)).finally(() => {
		for (const fd of fds) closeSync(fd);
		rmSync(directory, { recursive: true });
	});
}

describe("GuestRam", () => {
	it("map gives one zeroed window for a small machine", () => {
		const ram = GuestRam.map([{ gpa: 0, sizeBytes: 64 << 20 }]);
		expect(ram.regions.map(({ gpa, sizeBytes }) => ({ gpa, sizeBytes }))).toEqual([{ gpa: 0, sizeBytes: 64 << 20 }]);
		expect(ram.regions[0]!.hva % 4096).toBe(0);
		const memory = new GuestMemory(ram.regions);
		expect(memory.u64(4096)).toBe(0);
		memory.setU64(4096, 0x1234_5678_9abc);
		expect(memory.u64(4096)).toBe(0x1234_5678_9abc);
		ram.close();
	});

	it("discard gives pages back: they are zeroes later, and take no room", () => {
		for (const backing of ["anonymous", "memfd"] as const) {
			const ram = GuestRam.map([{ gpa: 0, sizeBytes: 64 * MiB }], { backing });
			const memory = new GuestMemory(ram.regions);
			const { hva } = ram.regions[0]!;
			memory.bytes(0, 64 * MiB).fill(1);
			const resident = () => Number(/^Rss: +(\d+) kB$/m.exec(smaps(hva))![1]);
			expect(resident()).toBe(64 * 1024);
			ram.discard(hva + PAGE, 40 * MiB);
			expect(resident()).toBe(24 * 1024);
			const around = [0, PAGE, 40 * MiB, 40 * MiB + PAGE, 64 * MiB - 1].map((gpa) => memory.u8(gpa));
			expect(around).toEqual([1, 0, 0, 1, 1]);
			ram.close();
		}
	});

	it("discard shows the image again that the pages were made of", async () => {
		await withFiles(
			([image]) => {
				const ram = GuestRam.map([{ gpa: 0, sizeBytes: 64 * MiB }], { image: image! });
				const memory = new GuestMemory(ram.regions);
				for (const page of [3, 4, 5]) memory.bytes(page * PAGE, PAGE).fill(7);
				ram.discard(ram.regions[0]!.hva + 3 * PAGE, 2 * PAGE);
				expect([3, 4, 5].map((page) => memory.u8(page * PAGE))).toEqual([1, 0, 7]);
				ram.close();
			},
			[3],
		);
	});

	it("discard refuses all that is no page of it, and does nothing after the end", () => {
		const ram = GuestRam.map([
			{ gpa: 0, sizeBytes: 3 * GiB },
			{ gpa: 4 * GiB, sizeBytes: MiB },
		]);
		const { hva } = ram.regions[0]!;
		/* Over the border of two windows. */
		ram.discard(hva + 2 * GiB - PAGE, 2 * PAGE);
		const wrong = [
			[hva - PAGE, PAGE],
			[hva + 3 * GiB, 2 * MiB],
			[hva + 1, PAGE],
			[hva, PAGE + 1],
			[0, PAGE],
			[Number.NaN, PAGE],
			[hva, Number.NaN],
		] as const;
		for (const [at, bytes] of wrong) expect(() => ram.discard(at, bytes)).toThrow(RangeError);
		ram.close();
		expect(() => ram.discard(hva, PAGE)).not.toThrow();
	});

	it("map cuts 6 GiB around the hole into windows of at most 2 GiB, adjacent on host and guest", () => {
		const ram = GuestRam.map([
			{ gpa: 0, sizeBytes: 3 * GiB },
			{ gpa: 4 * GiB, sizeBytes: 3 * GiB },
		]);
		expect(ram.regions.map((r) => [r.gpa / GiB, r.sizeBytes / GiB])).toEqual([
			[0, 2],
			[2, 1],
			[4, 2],
			[6, 1],
		]);
		expect(ram.regions[1]!.hva).toBe(ram.regions[0]!.hva + 2 * GiB);
		const memory = new GuestMemory(ram.regions);
		expect(memory.sizeBytes).toBe(6 * GiB);
		for (const gpa of [0, 2 * GiB - 8, 2 * GiB, 3 * GiB - 8, 4 * GiB, 7 * GiB - 8]) memory.setU64(gpa, gpa + 1);
		for (const gpa of [0, 2 * GiB - 8, 2 * GiB, 3 * GiB - 8, 4 * GiB, 7 * GiB - 8])
			expect(memory.u64(gpa)).toBe(gpa + 1);
		expect(memory.contains(3 * GiB - 8, 16)).toBe(false);
		expect(memory.contains(2 * GiB - 8, 16)).toBe(true);
		ram.close();
	});

	it("close empties every window, so that a late access throws", () => {
		const ram = GuestRam.map([{ gpa: 0, sizeBytes: 5 * GiB }]);
		const buffers = ram.regions.map((r) => r.buffer);
		const view = new DataView(buffers[0]!);
		ram.close();
		ram.close();
		expect(buffers.map((b) => b.byteLength)).toEqual([0, 0, 0]);
		expect(() => view.getUint8(0)).toThrow(TypeError);
	});

	it("map gives each range a host address that is its guest's modulo 2 MiB, and asks for huge pages", () => {
		const ram = GuestRam.map([
			{ gpa: 0, sizeBytes: 97 * MiB },
			{ gpa: 4 * GiB + 64 * 1024, sizeBytes: 5 * MiB },
			{ gpa: 8 * GiB, sizeBytes: 4096 },
		]);
		const off = ram.regions.map(({ gpa, hva }) => (hva - gpa) % (2 * MiB));
		expect(off).toEqual([0, 0, 0]);
		const { hva, buffer } = ram.regions[0]!;
		new Uint8Array(buffer)[0] = 1;
		const flags = /^VmFlags: (.*)$/m.exec(smaps(hva))![1]!.trim().split(" ");
		expect(flags).toEqual(expect.arrayContaining(["hg", "dd", "dc"])); /* huge pages, no dump, no fork */
		ram.close();
	});

	it("map takes a memfd that others can map, whose size nobody changes", () => {
		const ram = GuestRam.map(
			[
				{ gpa: 0, sizeBytes: 3 * MiB },
				{ gpa: 4 * GiB, sizeBytes: MiB },
			],
			{ backing: "memfd" },
		);
		const fd = ram.fd!;
		const [low, high] = ram.regions;
		expect(ram.offsets).toEqual([0, 4 * MiB]);
		expect(ram.regions.map(({ gpa, hva }) => (hva - gpa) % (2 * MiB))).toEqual([0, 0]);
		new Uint8Array(low!.buffer).set([1, 2, 3], 4096);
		new Uint8Array(high!.buffer).set([4, 5, 6], 0);
		const other = openSync(`/proc/self/fd/${fd}`, "r+");
		const found = Buffer.alloc(6);
		readSync(other, found, 0, 3, 4096);
		readSync(other, found, 3, 3, 4 * MiB);
		expect([...found]).toEqual([1, 2, 3, 4, 5, 6]);
		writeSync(other, Buffer.of(9), 0, 1, 8192);
		expect(new Uint8Array(low!.buffer)[8192]).toBe(9);
		for (const sizeBytes of [0, 64 * MiB]) {
			expect(() => ftruncateSync(other, sizeBytes)).toThrow(expect.objectContaining({ code: "EPERM" }));
		}
		expect(fstatSync(other).size).toBe(5 * MiB);
		closeSync(other);
		ram.close();
		expect(() => fstatSync(fd)).toThrow(expect.objectContaining({ code: "EBADF" }));
	});

	it("map leaves errors that are none of the memory's their own cause, and gives advice about size for size only", () => {
		const failing = (error: unknown) => {
			vi.spyOn(nativeHelper, "native").mockImplementationOnce(() => {
				throw error;
			});
			return () => GuestRam.map([{ gpa: 0, sizeBytes: MiB }]);
		};
		const old = new HostError("ERR_NATIVE_ABI", "Cannot use the native helper: its ABI version is 1, 2 is needed");
		expect(failing(old)).toThrow(old);
		const mapping = (code: string) => {
			const ramMap = () => {
				throw Object.assign(new Error("Cannot map guest RAM: it says"), { code });
			};
			vi.spyOn(nativeHelper, "native").mockReturnValueOnce({ ramMap } as unknown as nativeHelper.Native);
			return () => GuestRam.map([{ gpa: 0, sizeBytes: MiB }]);
		};
		expect(mapping("EMFILE")).toThrow(expect.objectContaining({ code: "ERR_RAM_MAP", hint: undefined }));
		expect(mapping("ENOMEM")).toThrow(
			expect.objectContaining({ code: "ERR_RAM_MAP", hint: expect.stringContaining("--memory") }),
		);
		expect(mapping("ERR_INVALID_STATE")).toThrow(expect.objectContaining({ code: "ERR_INVALID_STATE" }));
		vi.restoreAllMocks();
	});

	it("map names what was asked for when the host refuses", () => {
		expect(() => GuestRam.map([{ gpa: 0, sizeBytes: 2 ** 50 }])).toThrow(
			expect.objectContaining({ code: "ERR_RAM_MAP", message: expect.stringContaining("MiB of guest memory") }),
		);
	});

	it("writtenPages tells the pages of private memory that were written, by anybody and whatever was read", async () => {
		await withFiles(
			async ([image, other]) => {
				const ram = GuestRam.map([{ gpa: 0, sizeBytes: 64 * MiB }], { image: image! });
				ram.layOver([{ fd: other!, offset: 8 * PAGE, bytes: 2 * PAGE }]);
				const bytes = new Uint8Array(ram.regions[0]!.buffer);
				expect([3, 4, 8, 9, 16000].map((page) => bytes[page * PAGE])).toEqual([1, 0, 2, 2, 0]);
				expect([...(await ram.writtenPages()).runs()]).toEqual([]);
				bytes[4 * PAGE + 5] = 1;
				bytes[9 * PAGE] = 2; /* as it was */
				readSync(image!, bytes, 16000 * PAGE, 2 * PAGE, 3 * PAGE);
				expect([...(await ram.writtenPages()).runs()]).toEqual([
					[4, 5],
					[9, 10],
					[16000, 16002],
				]);
				ram.close();
			},
			[3],
			[8, 9],
		);
		const anonymous = GuestRam.map([{ gpa: 0, sizeBytes: 64 * MiB }]);
		new Uint8Array(anonymous.regions[0]!.buffer)[7 * PAGE] = 1;
		expect((await anonymous.writtenPages()).has(7)).toBe(true);
		anonymous.close();
	});

	it("writtenPages tells all pages where the host tells none", async () => {
		const ram = GuestRam.map([{ gpa: 0, sizeBytes: 64 * MiB }]);
		for (const pagemap of ["/proc/none", "/dev/null"])
			expect([...(await ram.writtenPages(pagemap)).runs()]).toEqual([[0, (64 * MiB) / PAGE]]);
		ram.close();
	});

	it("prefetch maps pages of all files that the memory is made of, but for what the page cache has", async () => {
		const last = (64 * MiB) / PAGE - 1;
		await withFiles(
			async ([image, other]) => {
				const ram = GuestRam.map([{ gpa: 0, sizeBytes: 64 * MiB }], { image: image! });
				ram.layOver([{ fd: other!, offset: 1024 * PAGE, bytes: 2 * PAGE }]);
				expect([...(await ram.touchedPages()).runs()]).toEqual([]);
				ram.prefetch([
					[3, 4],
					[1000, 3000],
					[last, last + 1],
				]);
				/* Holes that nobody has read are in no page cache, on no file system; what was just written is. */
				const wanted = [1000, 1024, 1025, 2999, last];
				const touched = async () => {
					const pages = await ram.touchedPages();
					return wanted.filter((page) => pages.has(page));
				};
				/* Reading goes on beside us. */
				await expect.poll(touched).toEqual(wanted);
				expect((await ram.touchedPages()).has(3)).toBe(false);
				expect([...(await ram.writtenPages()).runs()]).toEqual([]);
				const bytes = new Uint8Array(ram.regions[0]!.buffer);
				expect([3, 1024, 1025, 1026].map((page) => bytes[page * PAGE])).toEqual([1, 2, 2, 0]);
				ram.close();
			},
			[3],
			[1024, 1025],
		);
	});

	it("touchedPages tells what was read or written, and with small pages at most sixteen around", async () => {
		await withFiles(
			async ([image]) => {
				const ram = GuestRam.map([{ gpa: 0, sizeBytes: 64 * MiB }], { image: image! });
				const flags = () => /^VmFlags: (.*)$/m.exec(smaps(ram.regions[0]!.hva))![1]!.trim().split(" ");
				ram.useHugePages(false);
				expect(flags()).toContain("nh");
				const bytes = new Uint8Array(ram.regions[0]!.buffer);
				expect(bytes[1605 * PAGE]).toBe(0);
				bytes[5000 * PAGE] = 1;
				const pages = await ram.touchedPages();
				expect([1605, 5000].map((page) => pages.has(page))).toEqual([true, true]);
				for (const [start, end] of pages.runs()) {
					const isNear = (page: number) => start >= page - (page % 16) && end <= page - (page % 16) + 16;
					expect(isNear(1605) || isNear(5000), `${start} to ${end}`).toBe(true);
				}
				ram.useHugePages(true);
				expect(flags()).toContain("hg");
				ram.close();
			},
			[3],
		);
	});

	it("prefetch refuses what is outside, and goes on without harm when the memory goes or its file gets shorter", async () => {
		await withFiles(
			async ([image]) => {
				const ram = GuestRam.map([{ gpa: 0, sizeBytes: 64 * MiB }], { image: image! });
				const end = (64 * MiB) / PAGE;
				for (const [start, stop] of [
					[0, end + 1],
					[end, end + 1],
					[-1, 4],
					[4, 3],
					[0.5, 1],
					[Number.NaN, 4],
					[4, Number.POSITIVE_INFINITY],
				] as const)
					expect(() => ram.prefetch([[start, stop]])).toThrow(expect.objectContaining({ code: "EINVAL" }));
				ram.prefetch([]);
				for (let i = 0; i < 50; i++) ram.prefetch([[0, end]]);
				ram.close();
				ram.prefetch([[0, end]]);
				const cut = GuestRam.map([{ gpa: 0, sizeBytes: 64 * MiB }], { image: image! });
				ftruncateSync(image!, 4 * PAGE);
				cut.prefetch([[0, end]]);
				await expect.poll(async () => (await cut.touchedPages()).has(0)).toBe(true);
				expect((await cut.touchedPages()).has(4)).toBe(false);
				cut.close();
			},
			[3],
		);
	});

	it("layOver takes more parts than a process may map, and is private", async () => {
		const parts = Array.from({ length: 8000 }, (_, i) => 2 * i + 1);
		await withFiles(
			async ([image, other]) => {
				const ram = GuestRam.map([{ gpa: 0, sizeBytes: 64 * MiB }], { image: image! });
				ram.layOver(parts.map((page) => ({ fd: other!, offset: page * PAGE, bytes: PAGE })));
				const bytes = new Uint8Array(ram.regions[0]!.buffer);
				expect(parts.every((page) => bytes[page * PAGE] === 2 && bytes[(page - 1) * PAGE] === 0)).toBe(true);
				const maps = readFileSync("/proc/self/maps", "latin1").split("\n").length;
				expect(maps).toBeGreaterThan(4096);
				expect(maps).toBeLessThan(2 * 8000);
				bytes[PAGE] = 9;
				/* Those that were read stay different from the files, whatever becomes of them. */
				ram.discard(ram.regions[0]!.hva, 64 * MiB);
				expect([...(await ram.writtenPages()).runs()]).toHaveLength(8000 - 4096);
				const found = Buffer.alloc(1);
				readSync(other!, found, 0, 1, PAGE);
				expect(found[0]).toBe(2);
				expect(smaps(ram.regions[0]!.hva)).toContain("dd");
				ram.close();
			},
			[],
			parts,
		);
	});

	it("layOver refuses what is not in a file or not in the memory", async () => {
		await withFiles(([image]) => {
			const ram = GuestRam.map([{ gpa: 0, sizeBytes: 32 * MiB }], { image: image! });
			for (const part of [
				{ fd: image!, offset: 32 * MiB, bytes: PAGE },
				{ fd: image!, offset: 100, bytes: PAGE },
				{ fd: 12345, offset: 0, bytes: PAGE },
			])
				expect(() => ram.layOver([part])).toThrow(expect.objectContaining({ code: "ERR_RAM_MAP" }));
			ftruncateSync(image!, MiB);
			const parts = Array.from({ length: 4097 }, () => ({ fd: image!, offset: MiB, bytes: PAGE }));
			expect(() => ram.layOver(parts)).toThrow(expect.objectContaining({ code: "ERR_RAM_MAP" }));
			ram.close();
		}, []);
	});

	it("map and close leave nothing mapped, a hundred times over", async () => {
		const large = () =>
			readFileSync("/proc/self/maps", "latin1")
				.split("\n")
				.map((line) => line.split(/[- ]/, 2).map((address) => Number.parseInt(address, 16)))
				.filter(([start, end]) => end! - start! >= GiB).length;
		const before = large();
		for (let i = 0; i < 100; i++) {
			const ram = GuestRam.map([{ gpa: 0, sizeBytes: 1 * GiB }]);
			new Uint8Array(ram.regions[0]!.buffer)[i] = 1;
			ram.close();
		}
		/* The pages are given back on threads. */
		await expect.poll(large, { timeout: 10_000 }).toBe(before);
	});
});
