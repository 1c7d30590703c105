import { describe, expect, it } from "vitest";
import { validateSize } from "../../src/machine/config.ts";
import { HIGH_RAM_START, LOW_RAM_LIMIT, memoryMap, VIRTIO_SLOTS, virtioSlot } from "../../src/machine/memory-map.ts";

const MIB = 1 << 20;
const below1MiB = [
	{ start: 0, sizeBytes: 0xa0000, type: 1 },
	{ start: 0xdf000, sizeBytes: 0x1000, type: 2 },
	{ start: 0xe0000, sizeBytes: 0x20000, type: 3 },
];

describe("memoryMap", () => {
	it.each([
		[64, [{ start: MIB, sizeBytes: 63 * MIB, type: 1 }]],
		[128, [{ start: MIB, sizeBytes: 127 * MIB, type: 1 }]],
		[3072, [{ start: MIB, sizeBytes: 3071 * MIB, type: 1 }]],
		[
			6144,
			[
				{ start: MIB, sizeBytes: 3071 * MIB, type: 1 },
				{ start: 0x1_0000_0000, sizeBytes: 3072 * MIB, type: 1 },
			],
		],
		[
			32768,
			[
				{ start: MIB, sizeBytes: 3071 * MIB, type: 1 },
				{ start: 0x1_0000_0000, sizeBytes: 29696 * MIB, type: 1 },
			],
		],
	])("memoryMap of %i MiB is the e820 map that was agreed on", (memoryMiB, above) => {
		expect(memoryMap(memoryMiB).e820).toEqual([...below1MiB, ...above]);
	});

	it.each([64, 3071, 3072, 3073, 4096, 32768])(
		"memoryMap of %i MiB has that much RAM, none of it in the hole",
		(mib) => {
			const { ram, lowRamEnd } = memoryMap(mib);
			expect(ram.reduce((sum, range) => sum + range.sizeBytes, 0)).toBe(mib * MIB);
			for (const range of ram) {
				expect(range.gpa >= HIGH_RAM_START || range.gpa + range.sizeBytes <= LOW_RAM_LIMIT).toBe(true);
			}
			expect(lowRamEnd).toBe(ram[0]!.sizeBytes);
		},
	);

	it.each([0, 1, 63, -64, 64.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 21])(
		"validateSize refuses %f MiB",
		(mib) => {
			expect(() => validateSize(1, mib)).toThrow(expect.objectContaining({ code: "ERR_CONFIG_MEMORY" }));
		},
	);
});

describe("virtioSlot", () => {
	it("virtioSlot gives every slot its own page in the hole and its own free interrupt", () => {
		const slots = Array.from({ length: VIRTIO_SLOTS }, (_, i) => virtioSlot(i));
		expect(new Set(slots.map((s) => s.address)).size).toBe(16);
		expect(new Set(slots.map((s) => s.gsi)).size).toBe(16);
		for (const { address, sizeBytes, gsi } of slots) {
			expect(address).toBeGreaterThanOrEqual(LOW_RAM_LIMIT);
			expect(address + sizeBytes).toBeLessThan(0xfec00000);
			expect([0, 1, 2, 3, 4, 8, 9, 13]).not.toContain(gsi);
			expect(gsi).toBeLessThan(24);
		}
	});

	it("virtioSlot refuses one more with ERR_TOO_MANY_DEVICES", () => {
		expect(() => virtioSlot(VIRTIO_SLOTS)).toThrow("the machine has 16 slots");
	});
});
