/*
 * Guest RAM: windows, addresses, and that nothing can be reached after the unmapping.
 */
import { describe, expect, it } from "vitest";
import { GuestMemory } from "../../src/base/guest-memory.ts";
import { GuestRam } from "../../src/host/ram.ts";

const GiB = 2 ** 30;

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

	it("map names what was asked for when the host refuses", () => {
		expect(() => GuestRam.map([{ gpa: 0, sizeBytes: 2 ** 50 }])).toThrow(
			expect.objectContaining({ code: "ERR_RAM_MAP", message: expect.stringContaining("MiB of guest memory") }),
		);
	});

	it("map and close leave nothing mapped, a thousand times over", () => {
		for (let i = 0; i < 1000; i++) {
			const ram = GuestRam.map([{ gpa: 0, sizeBytes: 1 * GiB }]);
			new Uint8Array(ram.regions[0]!.buffer)[i] = 1;
			ram.close();
		}
		expect(process.memoryUsage().rss).toBeLessThan(2 * GiB);
	});
});
