import { expect, test } from "vitest";
import { checkReach } from "../../src/machine/resources.ts";

const GIB = 1024;

test("checkReach allows what the host's CPU can address, device hole included", () => {
	for (const [memoryMiB, bits] of [
		[511 * GIB, 39],
		[1024 * GIB, 46],
		[3 * GIB, 32],
	] as const) {
		expect(() => checkReach(memoryMiB, bits)).not.toThrow();
	}
});

test("checkReach refuses what it cannot address with ERR_RAM_REACH", () => {
	for (const [memoryMiB, bits] of [
		[512 * GIB, 39],
		[1024 * GIB, 40],
		[3 * GIB + 1, 32],
	] as const) {
		expect(() => checkReach(memoryMiB, bits)).toThrow(expect.objectContaining({ code: "ERR_RAM_REACH" }));
	}
	expect(() => checkReach(512 * GIB, 39)).toThrow("this host's CPU has addresses of 39 bits");
});
