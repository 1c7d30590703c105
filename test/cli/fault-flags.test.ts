/* --fault and --fault-seed: what is read, what is refused, and what is told at the end. */
import { expect, test } from "vitest";
import { describeFaults, faultText } from "../../src/base/faults.ts";
import { faultsOf, parseFault, parseFaultSeed } from "../../src/cli/fault-flags.ts";

test.each([
	["blk0:read:io-error:1%", { device: "blk0", event: "read", effect: "io-error", probability: 0.01 }],
	["blk0:flush:delay:20ms", { device: "blk0", event: "flush", effect: "delay", delayMs: 20, probability: 1 }],
	["net0:rx:delay:1.5s:50%", { device: "net0", event: "rx", effect: "delay", delayMs: 1500, probability: 0.5 }],
	["*:interrupt:lost:0.1%", { device: "*", event: "interrupt", effect: "lost", probability: 0.001 }],
])("parseFault reads %s", (text, rule) => {
	expect(parseFault(text)).toEqual(rule);
	expect(parseFault(faultText(parseFault(text)))).toEqual(rule);
});

test.each([
	["", /a device, an event and an effect are wanted$/],
	["blk0:read", /a device, an event and an effect are wanted$/],
	["blk0:read:explode", /"explode" is no effect$/],
	["blk0:read:delay", /a delay has a time, as in/],
	["blk0:read:delay:5", /a delay has a time, as in/],
	["blk0:read:delay:-5ms", /a delay has a time, as in/],
	["blk0:read:io-error:1", /"1" is no percentage/],
	["blk0:read:io-error:x%", /"x%" is no percentage/],
	["blk0:read:io-error:1%:2%", /"2%" is too much$/],
])("parseFault refuses %j", (text, message) => {
	const error = expect.objectContaining({ code: "ERR_OPTION_FAULT", message: expect.stringMatching(message) });
	expect(() => parseFault(text)).toThrow(error);
});

test("an effect that is not known is answered with those that are", () => {
	expect(() => parseFault("blk0:read:explode")).toThrow(
		expect.objectContaining({ hint: "Choose from io-error, corrupt, lost, drop, duplicate, refuse, delay" }),
	);
});

test("the seed is a number, or chosen at random and told", () => {
	expect(parseFaultSeed("42")).toBe(42);
	expect(() => parseFaultSeed("x")).toThrow(/fault seed "x"/);
	expect(faultsOf({ fault: [] })).toBeUndefined();
	const fault = [parseFault("blk0:read:io-error")];
	expect(faultsOf({ fault, faultSeed: 42 })?.seed).toBe(42);
	const faults = faultsOf({ fault })!;
	expect(describeFaults(faults)).toEqual([
		"fault blk0:read:io-error hit 0 of 0",
		`fault seed ${faults.seed}: --fault-seed ${faults.seed} gives the same faults again`,
	]);
});
