/*
 * The native helper's functions, called as no wrapper of src/host calls them.
 */
import { describe, expect, it } from "vitest";
import { type Handle, native } from "../../src/host/native.ts";

describe("native", () => {
	it.each([
		["ramUnmap", []],
		["loopRegister", [true, 0x3f8, 1, 0, 0]],
		["vcpuStart", [0, 0, 4096]],
		["vcpuResume", [0]],
		["vcpuKick", [0]],
		["loopStop", []],
		["loopDestroy", []],
		["pollSet", [1]],
		["pollDestroy", []],
		["ioSubmit", [1]],
		["ioReap", []],
		["ioDestroy", []],
	] as const)("%s throws when its handle is none", (name, rest) => {
		const call = native()[name] as (handle: Handle | undefined, ...rest: unknown[]) => unknown;
		for (const wrong of [undefined, 42, {}, "handle"]) {
			expect(() => call(wrong as Handle | undefined, ...rest)).toThrow(
				expect.objectContaining({ code: "ERR_INVALID_ARG_TYPE" }),
			);
		}
	});
});
