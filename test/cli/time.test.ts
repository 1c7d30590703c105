/* Times on a command line. */
import { expect, test } from "vitest";
import { type HealthFlags, readHealth } from "../../src/cli/container/health-flags.ts";
import { parseDuration, readTime } from "../../src/cli/time.ts";

test.each([
	["30s", 30_000],
	["1m30s", 90_000],
	["1.5h", 5_400_000],
	["500ms", 500],
	["", undefined],
	["30", undefined],
	["-1s", undefined],
	["1d", undefined],
])("parseDuration reads %j as %j", (text, ms) => {
	expect(parseDuration(text)).toBe(ms);
});

test("readTime reads seconds since 1970, a time ago, and RFC 3339", () => {
	expect(readTime("1.5")).toBe(1500);
	expect(readTime("1m", 100_000)).toBe(40_000);
	expect(readTime("1970-01-01T00:00:02Z")).toBe(2000);
	expect(() => readTime("soon")).toThrow(expect.objectContaining({ code: "ERR_LOGS" }));
});

const flags: HealthFlags = {
	healthCmd: "true",
	healthInterval: "1s",
	healthTimeout: "2s",
	healthRetries: "3",
	healthStartPeriod: "0s",
	healthcheck: true,
};

test("readHealth reads the flags, and --no-healthcheck wins", () => {
	const args = ["/bin/sh", "-c", "true"];
	expect(readHealth(flags)).toEqual({ args, intervalMs: 1000, timeoutMs: 2000, retries: 3, startPeriodMs: 0 });
	expect(readHealth({ ...flags, healthcheck: false })).toBe(undefined);
});

test("readHealth takes from the image what no flag says, and the rest as Docker has it", () => {
	const image = { args: ["/well"], intervalMs: 7000, timeoutMs: 2 ** 40, startPeriodMs: undefined, retries: undefined };
	expect(readHealth({ healthcheck: true }, image)).toEqual({
		args: ["/well"],
		intervalMs: 7000,
		timeoutMs: 2 ** 31 - 1,
		retries: 3,
		startPeriodMs: 0,
	});
	const own = readHealth({ healthcheck: true, healthCmd: "true", healthInterval: "1s" }, image);
	expect(own).toMatchObject({ args: ["/bin/sh", "-c", "true"], intervalMs: 1000, retries: 3 });
	expect(readHealth({ healthcheck: false }, image)).toBe(undefined);
	expect(readHealth({ healthcheck: true })).toBe(undefined);
});

test.each([
	{ healthInterval: "0s" },
	{ healthTimeout: "0s" },
	{ healthInterval: "1000h" },
	{ healthRetries: "0" },
	{ healthStartPeriod: "x" },
])("readHealth refuses %j", (wrong) => {
	expect(() => readHealth({ ...flags, ...wrong })).toThrow(expect.objectContaining({ code: "ERR_RUN_HEALTH" }));
});
