/*
 * The native helper's functions, with calls that the wrappers in src/host never make.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { type Handle, native, packageAbove, packageRoot } from "../../src/host/native.ts";

const CALLS = [
	["ramUnmap", []],
	["loopRegister", [true, 0x3f8, 1, 0, 0]],
	["vcpuStart", [0, 0, 4096]],
	["vcpuResume", [0]],
	["vcpuKick", [0]],
	["loopMayPoll", []],
	["loopStop", []],
	["loopDestroy", []],
	["pollSet", [1]],
	["pollDestroy", []],
	["ioSubmit", [1]],
	["ioReap", []],
	["ioDestroy", []],
] as const;

const call = (name: (typeof CALLS)[number][0], handle: unknown, rest: readonly unknown[]) =>
	(native()[name] as (handle: Handle, ...rest: unknown[]) => unknown)(handle as Handle, ...rest);

const ignore = () => undefined;
const MAKERS = {
	ram: { make: () => native().ramMap(4096, Float64Array.of(0, 4096), false, -1).ram, destroy: "ramUnmap" },
	loop: { make: () => native().loopCreate(1, ignore).loop, destroy: "loopDestroy" },
	poll: { make: () => native().pollCreate(native().eventfdCreate(), 1, true, ignore), destroy: "pollDestroy" },
	io: { make: () => native().ioCreate(4, false, 0, ignore).io, destroy: "ioDestroy" },
} as const;
const kindOf = (name: string) =>
	name.startsWith("ram") ? "ram" : name.startsWith("io") ? "io" : name.startsWith("poll") ? "poll" : "loop";

describe("packageAbove", () => {
	it("finds the package from within, and says so where there is none", () => {
		expect(packageAbove(join(packageRoot(), "src/host"))).toBe(packageRoot());
		expect(() => packageAbove("/usr/bin")).toThrow(expect.objectContaining({ code: "ERR_NATIVE_MISSING" }));
	});
});

describe("native", () => {
	it.each(CALLS)("%s throws when its handle is none, or one of another kind", (name, rest) => {
		const { make, destroy } = MAKERS[name.startsWith("poll") ? "ram" : "poll"];
		const other = make();
		for (const wrong of [undefined, 42, {}, "handle", other]) {
			expect(() => call(name, wrong, rest)).toThrow(expect.objectContaining({ code: "ERR_INVALID_ARG_TYPE" }));
		}
		call(destroy, other, []);
	});

	it.each(CALLS)("%s throws when what its handle leads to was destroyed", (name, rest) => {
		const { make, destroy } = MAKERS[kindOf(name)];
		const handle = make();
		call(destroy, handle, []);
		expect(() => call(name, handle, rest)).toThrow(
			expect.objectContaining({ code: "ERR_INVALID_STATE", message: expect.stringMatching(/: it was destroyed$/) }),
		);
	});

	it.each([
		["loopCreate", [1, undefined]],
		["loopCreate", [0, ignore]],
		["loopCreate", [65, ignore]],
		["pollCreate", [-1, 1, false, ignore]],
		["pollCreate", [0, 1, false, undefined]],
		["ramMap", [Number.NaN, Float64Array.of(0, 4096), false, -1]],
		["ramMap", [-4096, Float64Array.of(0, 4096), false, -1]],
		["ramMap", [4096, Float64Array.of(4096, 1), false, -1]],
		["ramMap", [4096, Uint8Array.of(0, 16), true, -1]],
		["ramMap", [4096, Float64Array.of(0, Number.NaN), false, -1]],
		["ioCreate", [4, false, 0, 42]],
		["ioCreate", [0, false, 0, ignore]],
		["ioCreate", [1e9, false, 0, ignore]],
		["ioCreate", [4, false, 3, ignore]],
	] as const)("%s of %j throws an errno and leaves nothing behind", (name, rest) => {
		const make = native()[name] as (...rest: unknown[]) => unknown;
		expect(() => make(...rest)).toThrow(expect.objectContaining({ code: expect.stringMatching(/^E[A-Z]+$/) }));
	});
});

it.each([
	[0, 0, 1],
	[5, 0, 1],
	[1, 3, 1],
	[1, -1, 1],
	[1, 1, 1024],
	[1, 1, 65_537],
	[1, 256, 1],
])("loopRegister refuses size %i, kind %i, word %i", (size, kind, word) => {
	const { loop } = native().loopCreate(1, ignore);
	expect(() => native().loopRegister(loop, true, 0x3f8, size, kind, word)).toThrow(
		expect.objectContaining({ code: "EINVAL" }),
	);
	native().loopDestroy(loop);
});

it("native refuses a helper of another version, whatever it says its version is", async () => {
	vi.resetModules();
	for (const [abiVersion, shown] of [
		[1, "1"],
		[3.2e-319, "unknown"],
		[undefined, "unknown"],
	] as const) {
		vi.doMock("../../src/host/addon.ts", () => ({ loadAddon: () => ({ abiVersion }) }));
		const fresh = await import("../../src/host/native.ts");
		expect(() => fresh.native()).toThrow(
			expect.objectContaining({
				code: "ERR_NATIVE_ABI",
				message: `Cannot use the native helper: its ABI version is ${shown}, ${fresh.ABI_VERSION} is needed`,
			}),
		);
		vi.resetModules();
	}
	vi.doUnmock("../../src/host/addon.ts");
});

it("native says whether the helper is not there or cannot be loaded", async () => {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-native-"));
	vi.stubEnv("TSVMM_PREBUILD", directory); /* where node-gyp-build looks */
	vi.doMock("../../src/host/addon.ts", () => ({ loadAddon: () => undefined }));
	const load = async () => {
		vi.resetModules();
		return (await import("../../src/host/native.ts")).native();
	};
	const missing = (message: unknown) => expect.objectContaining({ code: "ERR_NATIVE_MISSING", message });
	try {
		await expect(load()).rejects.toEqual(missing("Cannot load the native helper: there is no build for this machine"));
		const prebuilds = join(directory, "prebuilds", `linux-${process.arch}`);
		mkdirSync(prebuilds, { recursive: true });
		writeFileSync(join(prebuilds, "tsvmm.glibc.node"), "cut short");
		await expect(load()).rejects.toEqual(
			missing(expect.stringMatching(/^Cannot load the native helper: .*tsvmm\.glibc\.node: file too short$/)),
		);
	} finally {
		vi.doUnmock("../../src/host/addon.ts");
		vi.unstubAllEnvs();
		vi.resetModules();
		rmSync(directory, { recursive: true });
	}
});

it.each(["readv", "writev"] as const)("%s takes arrays of its own types only, and no more than they hold", (name) => {
	const fd = native().eventfdCreate();
	const call = native()[name] as (...rest: unknown[]) => number;
	const [hvas, lengths] = [new Float64Array(2), new Uint32Array(2)];
	expect(call(fd, new Uint8Array(2), lengths, 2)).toBe(-constants.errno.EINVAL);
	expect(call(fd, hvas, new Float64Array(2), 2)).toBe(-constants.errno.EINVAL);
	for (const count of [3, -1, 2000]) expect(call(fd, hvas, lengths, count)).toBe(-constants.errno.EINVAL);
	native().fdClose(fd);
});
