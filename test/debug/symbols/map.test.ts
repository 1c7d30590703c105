/* Symbols as text, and what is found beside a kernel. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { kernelSymbols, symbolsIn } from "../../../src/debug/symbols/kernel-symbols.ts";
import { mapSymbols } from "../../../src/debug/symbols/map.ts";
import { packedKernel } from "./kernel-images.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-maps-"));
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
	const path = join(directory, name);
	writeFileSync(path, content);
	return path;
}

const MAP = `0000000000000000 D __per_cpu_start
ffffffff81000000 t local_name
ffffffff81000000 T _stext
ffffffff81000120 T start_kernel
ffffffff81c00080 T entry_SYSCALL_64
ffffffff82000000 B _end
`;

test("mapSymbols reads a System.map, and the global one of two names", () => {
	const symbols = mapSymbols(MAP, "System.map");
	expect(symbols.describe(0xffff_ffff_8100_0000n)).toBe("_stext");
	expect(symbols.describe(0xffff_ffff_8100_0123n)).toBe("start_kernel+0x3");
	expect(symbols.describe(0xffff_ffff_8200_1000n)).toBe("0xffffffff82001000");
	expect(symbols.find("__per_cpu_start")).toBe(undefined);
});

test("mapSymbols reads /proc/kallsyms with its modules, and names nothing between them", () => {
	const modules = `ffffffffc0441000 t virtblk_probe\t[virtio_blk]
ffffffffc0441100 t virtblk_remove\t[virtio_blk]
ffffffffc0500000 t net_probe\t[virtio_net]
`;
	const symbols = mapSymbols(MAP + modules, "kallsyms");
	expect(symbols.describe(0xffff_ffff_c044_1010n)).toBe("virtblk_probe+0x10 [virtio_blk]");
	expect(symbols.describe(0xffff_ffff_c044_1fffn)).toBe("virtblk_remove+0xeff [virtio_blk]");
	for (const nowhere of [0xffff_ffff_8200_1000n, 0xffff_ffff_c044_0000n, 0xffff_ffff_c044_2000n]) {
		expect(symbols.nearest(nowhere)).toBe(undefined);
	}
	expect(symbols.describe(0xffff_ffff_8200_0ff0n)).toBe("_end+0xff0");
});

test("mapSymbols refuses a map without addresses, and what is none", () => {
	const refused = (text: string) => expect(() => mapSymbols(text, "x"));
	refused("").toThrow(/it is empty/);
	refused(MAP.replace(/^\S+/gm, "0".repeat(16))).toThrow(/all of its addresses are 0/);
	refused(`${MAP}hello\n`).toThrow(/line 7 is none of a System.map: "hello"/);
	refused("c1000000 T _stext\n").toThrow(/line 1 is none/);
	refused("ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n").toThrow(/line 1/);
});

test("kernelSymbols takes System.map-VERSION beside vmlinuz-VERSION, also through a link", async () => {
	const map = file("System.map-6.1.0-test", MAP);
	const kernel = file("vmlinuz-6.1.0-test", packedKernel(Buffer.alloc(4096)));
	symlinkSync(kernel, join(directory, "vmlinuz"));
	for (const path of [kernel, join(directory, "vmlinuz")]) {
		const symbols = await kernelSymbols(path);
		expect([symbols.path, symbols.find("start_kernel")]).toEqual([map, 0xffff_ffff_8100_0120n]);
	}
	expect((await symbolsIn(map)).count).toBe(4);
	file("System.map-6.1.0-other", "ffffffffffffffff B The real System.map is elsewhere\n");
	const other = await kernelSymbols(file("vmlinuz-6.1.0-other", packedKernel(Buffer.alloc(4096))));
	expect(other.count).toBe(0);
});
