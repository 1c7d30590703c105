import { expect, test } from "vitest";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { blockSuite } from "./block-suite.ts";

blockSuite({
	name: "MemoryDisk",
	make: async (content) => ({ disk: new MemoryDisk(content), content: () => content.slice() }),
	memory: (sizeBytes) => ({ hva: 0, bytes: new Uint8Array(sizeBytes) }),
});

test("MemoryDisk refuses sizes that are no whole sectors", () => {
	for (const size of [0, 511, 513]) {
		expect(() => new MemoryDisk(size)).toThrowError(expect.objectContaining({ code: "ERR_DISK_SIZE" }));
	}
});
