import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GuestMemory } from "../../src/base/guest-memory.ts";
import { type Booted, prepareBoot } from "../../src/boot/boot.ts";
import { acpiDisabled, composeCmdline, virtioMmioParameters, writeCmdline } from "../../src/boot/cmdline.ts";
import { openInitrd, openKernel } from "../../src/boot/kernel.ts";
import { memoryMap, virtioSlot } from "../../src/machine/memory-map.ts";
import { bzImage, elfImage, fakeMemory } from "./images.ts";

let directory: string;
beforeAll(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-boot-"));
	writeFileSync(join(directory, "initrd"), Buffer.alloc(6000, 1));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function boot(image: Buffer, cmdline: string): Promise<{ memory: GuestMemory; booted: Booted }> {
	writeFileSync(join(directory, "kernel"), image);
	const memory = fakeMemory(64);
	const { e820, lowRamEnd } = memoryMap(64);
	const [kernel, initrd] = [openKernel(join(directory, "kernel")), openInitrd(join(directory, "initrd"))];
	const booted = await prepareBoot(memory, {
		kernel,
		initrd,
		cmdline,
		cpus: 2,
		e820,
		lowRamEnd,
		virtioMmio: [virtioSlot(0), virtioSlot(8)],
		virtioSlots: [virtioSlot(0), virtioSlot(8)],
	});
	kernel.close();
	initrd.close();
	return { memory, booted };
}

function cString(memory: GuestMemory, at: number): string {
	const bytes = Buffer.from(memory.bytes(at, 4096));
	return bytes.toString("latin1", 0, bytes.indexOf(0));
}

describe("prepareBoot", () => {
	it("prepareBoot leaves a PVH kernel a start info with initrd, command line, RSDP and memory map", async () => {
		const { memory, booted } = await boot(elfImage({ pvhEntry: 0x1000000 }), "console=ttyS0");
		const info = 0x6000;
		expect(memory.u32(info)).toBe(0x336ec578);
		expect(memory.u32(info + 4)).toBe(1);
		expect(memory.u32(info + 12)).toBe(1);
		const module = memory.u64(info + 16);
		expect(memory.u64(module)).toBe(booted.initrd!.start);
		expect(memory.u64(module + 8)).toBe(6000);
		expect(cString(memory, memory.u64(info + 24))).toBe("console=ttyS0");
		expect(cString(memory, memory.u64(info + 32))).toMatch(/^RSD PTR /);
		const map = memory.u64(info + 40);
		expect(memory.u32(info + 48)).toBe(4);
		const entry = (i: number) =>
			[0, 8].map((at) => memory.u64(map + 24 * i + at)).concat(memory.u32(map + 24 * i + 16));
		expect(entry(1)).toEqual([0xdf000, 0x1000, 2]);
		expect(entry(3)).toEqual([1 << 20, 63 << 20, 1]);
	});

	it("prepareBoot leaves a bzImage a zero page with its own setup header in it", async () => {
		const { memory, booted } = await boot(bzImage(), "quiet");
		const page = 0x7000;
		expect(memory.u32(page + 0x202)).toBe(0x53726448);
		expect(memory.u16(page + 0x206)).toBe(0x20f);
		expect(memory.u8(page + 0x210)).toBe(0xff);
		expect(memory.u32(page + 0x218)).toBe(booted.initrd!.start);
		expect(memory.u32(page + 0x21c)).toBe(6000);
		expect(cString(memory, memory.u32(page + 0x228))).toBe("quiet");
		expect(memory.u64(page + 0x70)).toBe(0xe0000);
		expect(memory.u8(page + 0x1e8)).toBe(4);
		expect([memory.u64(page + 0x2d0 + 60), memory.u64(page + 0x2d0 + 68)]).toEqual([1 << 20, 63 << 20]);
	});

	it("prepareBoot maps the first 4 GiB one to one for the 64-bit entry", async () => {
		const { memory } = await boot(elfImage(), "");
		const physical = (address: number): number => {
			const pdpt = memory.u64(0x9000) & ~0xfff;
			const pd = memory.u64(pdpt + 8 * Math.floor(address / 2 ** 30)) & ~0xfff;
			const entry = memory.u64(pd + 8 * (Math.floor(address / 2 ** 21) % 512));
			expect(entry % 4096).toBe(0x83);
			return entry - 0x83 + (address % 2 ** 21);
		};
		for (const address of [0, 0x1000200, 0x7fffffff, 0xfee00000, 0xffffffff]) expect(physical(address)).toBe(address);
	});

	it("prepareBoot puts a reset through port 0x602 where Linux jumps to the BIOS", async () => {
		const { memory } = await boot(elfImage({ pvhEntry: 0x1000000 }), "");
		expect(Buffer.from(memory.bytes(0xffff0, 10)).toString("hex")).toBe("ba0206b001eefaf4ebfd");
	});

	it("prepareBoot without ACPI names the virtio-mmio devices before the user's parameters", async () => {
		const { memory, booted } = await boot(elfImage({ pvhEntry: 0x1000000 }), "acpi=off -- run this");
		expect(booted.cmdline).toBe(
			"virtio_mmio.device=4K@0xd0000000:16 virtio_mmio.device=4K@0xd0008000:5 acpi=off -- run this",
		);
		expect(memory.u64(0x6000 + 32)).toBe(0);
		expect(cString(memory, 0xe0000)).toBe("");
	});
});

describe("the command line", () => {
	it("composeCmdline joins what is there with single spaces", () => {
		expect(composeCmdline(" a=1 ", undefined, "", "b")).toBe("a=1 b");
	});

	it.each(["a\nb", "caf\u00e9", "a\0b", "a\u{1f600}"])("composeCmdline refuses %j with ERR_CMDLINE", (bad) => {
		expect(() => composeCmdline("ok", bad)).toThrow(expect.objectContaining({ code: "ERR_CMDLINE" }));
	});

	it("writeCmdline takes exactly the kernel's limit", () => {
		const memory = fakeMemory(1);
		writeCmdline(memory, "x".repeat(2047), 2047);
		expect(memory.u8(0x20000 + 2047)).toBe(0);
		expect(() => writeCmdline(memory, "x".repeat(2048), 2047)).toThrow(
			expect.objectContaining({ code: "ERR_CMDLINE_TOO_LONG" }),
		);
	});

	it("acpiDisabled listens to the last acpi= parameter", () => {
		expect(["acpi=off", "x acpi=off quiet", "acpi=off acpi=force", "noacpi=off", ""].map(acpiDisabled)).toEqual([
			true,
			true,
			false,
			false,
			false,
		]);
	});

	it("virtioMmioParameters gives size, address and interrupt", () => {
		expect(virtioMmioParameters([virtioSlot(2)])).toBe("virtio_mmio.device=4K@0xd0002000:18");
	});
});
