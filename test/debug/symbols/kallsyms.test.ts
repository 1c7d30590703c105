/* kallsyms of images that are made here; real kernels' are read in the lab (test/lab/endings.test.ts). */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { kallsyms } from "../../../src/debug/symbols/kallsyms.ts";
import { kernelSymbols } from "../../../src/debug/symbols/kernel-symbols.ts";
import { kallsymsImage, type NamedAddress, packedKernel } from "./kernel-images.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-kallsyms-"));
afterAll(() => rmSync(directory, { recursive: true }));

const TEXT = 0xffff_ffff_8100_0000n;
/* More than two markers, and a name whose length has two bytes. */
const kernel: NamedAddress[] = Array.from({ length: 700 }, (_, i) => ({
	address: TEXT + BigInt(16 * i),
	type: i % 3 === 0 ? "T" : "t",
	name: i === 300 ? `long_${"name".repeat(60)}` : i === 5 ? "start_kernel" : `function_${i}_er`,
}));
const perCpu: NamedAddress[] = [{ address: 0x40n, type: "A", name: "fixed_percpu_data" }];

test.each([
	["6.0", true],
	["6.1", true],
	["6.12", true],
	["6.12", false],
] as const)("kallsyms finds the tables of Linux %s, absolute %s", (form, absolute) => {
	const all = absolute ? [...perCpu, ...kernel] : kernel;
	const symbols = kallsyms(kallsymsImage(all, { form, absolute }), "vmlinux");
	expect(symbols?.count).toBe(kernel.length);
	for (const { address, name } of kernel) expect(symbols!.describe(address)).toBe(name);
	expect(symbols!.describe(TEXT + 83n)).toBe("start_kernel+0x3");
	expect(symbols!.nearest(0x40n)).toBe(undefined);
});

test("kallsyms finds none where there are none, and throws at no damage", () => {
	const image = kallsymsImage([...perCpu, ...kernel], { form: "6.1" });
	expect(kallsyms(Buffer.alloc(0), "k")).toBe(undefined);
	expect(kallsyms(Buffer.alloc(65536, 0x30), "k")).toBe(undefined);
	for (let bytes = 0; bytes < image.length; bytes += 997) {
		const found = kallsyms(image.subarray(0, bytes), "k");
		expect(found === undefined || found.count > 0).toBe(true);
	}
	for (let at = 0; at < image.length; at += 61) {
		const broken = Buffer.from(image);
		broken[at] = broken[at]! ^ 0xff;
		const found = kallsyms(broken, "k");
		expect(found === undefined || found.count > 0).toBe(true);
	}
});

test("kernelSymbols unpacks a bzImage and reads its kallsyms", async () => {
	const path = join(directory, "vmlinuz");
	writeFileSync(path, packedKernel(kallsymsImage(kernel, { form: "6.12" })));
	const symbols = await kernelSymbols(path);
	expect([symbols.path, symbols.find("start_kernel")]).toEqual([path, TEXT + 80n]);
	writeFileSync(path, packedKernel(Buffer.alloc(10)));
	expect((await kernelSymbols(path)).count).toBe(0);
	writeFileSync(path, packedKernel(Buffer.alloc(10)).subarray(0, 1030));
	await expect(kernelSymbols(path)).rejects.toMatchObject({ code: "ERR_SYMBOLS" });
});
