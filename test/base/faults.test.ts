/* Rules of faults: what they hit, that a seed repeats it, and what is refused. */
import { expect, test, vi } from "vitest";
import { enterDirectly } from "../../src/base/enter.ts";
import { type FaultRule, Faults, type FaultTarget, faultText, INTERRUPT_EVENTS } from "../../src/base/faults.ts";

const EVENTS = { read: ["io-error", "delay"], write: ["lost"] } as const;
const DISKS: FaultTarget[] = ["disk0", "disk1"].map((id, i) => ({
	id,
	alias: `blk${i}`,
	events: { ...EVENTS, ...INTERRUPT_EVENTS },
}));
const RULE: FaultRule = { device: "blk0", event: "read", effect: "io-error", probability: 0.25 };

function made(rules: FaultRule[], seed = 1): Faults {
	const faults = new Faults(rules, { seed });
	faults.check(DISKS);
	return faults;
}
/** For `count` reads of a disk, the numbers of those that fail. */
function hits(faults: Faults, id: string, count = 400): number[] {
	const disk = faults.of(id, EVENTS, enterDirectly);
	return Array.from({ length: count }, (_, i) => i).filter(() => disk?.meet("read")?.effect === "io-error");
}

test("a seed repeats the faults, and another seed has others, about as many as the rule says", () => {
	const first = hits(made([RULE]), "disk0");
	expect(hits(made([RULE]), "disk0")).toEqual(first);
	expect(hits(made([RULE], 2), "disk0")).not.toEqual(first);
	expect(first.length).toBeGreaterThan(60);
	expect(first.length).toBeLessThan(140);
});

test("a fault depends on nothing that happens elsewhere", () => {
	const alone = hits(made([RULE]), "disk0", 50);
	const faults = made([RULE, { ...RULE, device: "*" }]);
	const disk = faults.of("disk0", EVENTS, enterDirectly)!;
	const other = faults.of("disk1", EVENTS, enterDirectly)!;
	const first: number[] = [];
	for (let i = 0; i < 50; i++) {
		other.meet("read");
		other.meet("write");
		const before = faults.counts[0]!.hits;
		disk.meet("read");
		if (faults.counts[0]!.hits > before) first.push(i);
	}
	expect(first).toEqual(alone);
});

test("rules hit the device that they name, by id, by short name or by *", () => {
	const reads = (device: string) => {
		const faults = made([{ ...RULE, device, probability: 1 }]);
		return ["disk0", "disk1"].map((id) => hits(faults, id, 3).length);
	};
	expect(reads("disk0")).toEqual([3, 0]);
	expect(reads("blk1")).toEqual([0, 3]);
	expect(reads("*")).toEqual([3, 3]);
	expect(hits(made([{ ...RULE, probability: 0 }]), "disk0")).toEqual([]);
});

test("a device that no rule names has no faults at all", () => {
	const faults = made([RULE]);
	expect(faults.of("disk1", EVENTS, enterDirectly)).toBeUndefined();
	expect(faults.of("disk0", INTERRUPT_EVENTS, enterDirectly)).toBeUndefined();
});

test("a delay comes on top of another effect, and is told with its number", () => {
	const told: string[] = [];
	const onFault = ({ device, rule, number }: { device: string; rule: FaultRule; number: number }) =>
		told.push(`${device} ${faultText(rule)} ${number}`);
	const rules: FaultRule[] = [
		{ device: "*", event: "read", effect: "delay", delayMs: 5 },
		{ device: "disk0", event: "read", effect: "io-error", probability: 1 },
	];
	const faults = new Faults(rules, { seed: 0, onFault });
	faults.check(DISKS);
	expect(faults.of("disk0", EVENTS, enterDirectly)!.meet("read")).toMatchObject({ effect: "io-error", delayMs: 5 });
	expect(told).toEqual(["disk0 *:read:delay:5ms 1", "disk0 disk0:read:io-error 1"]);
	expect(faults.counts.map(({ events, hits }) => [events, hits])).toEqual([
		[1, 1],
		[1, 1],
	]);
});

test("an interrupt is lost, or comes later in the machine, unless the device is closed before", () => {
	vi.useFakeTimers();
	try {
		const names: string[] = [];
		const enter = (name: string, run: () => void) => {
			names.push(name);
			run();
		};
		const raised = vi.fn();
		const line = (rule: Partial<FaultRule>) =>
			made([{ device: "disk0", event: "interrupt", effect: "lost", ...rule }]).of("disk0", INTERRUPT_EVENTS, enter)!;
		line({}).pass("interrupt", raised);
		line({ probability: 0 }).pass("interrupt", raised);
		expect(raised).toHaveBeenCalledTimes(1);
		const late = line({ effect: "delay", delayMs: 20 });
		late.pass("interrupt", raised);
		late.pass("interrupt", raised);
		vi.advanceTimersByTime(19);
		expect(raised).toHaveBeenCalledTimes(1);
		vi.advanceTimersByTime(1);
		expect(raised).toHaveBeenCalledTimes(3);
		expect(names).toEqual(["disk0", "disk0"]);
		late.pass("interrupt", raised);
		late.close();
		vi.advanceTimersByTime(100);
		expect(raised).toHaveBeenCalledTimes(3);
	} finally {
		vi.useRealTimers();
	}
});

test.each([
	[{ device: "blk7" }, /there is no device "blk7"/, "Choose from disk0 (blk0), disk1 (blk1) or *"],
	[{ event: "raed" }, /blk0 has no event "raed"/, "Choose from read, write, interrupt"],
	[{ event: "write" }, /"write" cannot meet "io-error"/, "Choose from lost"],
	[{ device: "*", event: "rx", effect: "drop" }, /\* has no event "rx"/, "Choose from read, write, interrupt"],
] as const)("a rule with %j is refused, and the hint lists what there is", (change, message, hint) => {
	const error = expect.objectContaining({ code: "ERR_FAULT", message: expect.stringMatching(message), hint });
	expect(() => made([{ ...RULE, ...change }])).toThrow(error);
});

test("a machine without devices has nothing that can go wrong", () => {
	expect(() => new Faults([RULE], { seed: 0 }).check([])).toThrow(
		expect.objectContaining({ hint: "Give the machine a device" }),
	);
});

test.each([
	[{ probability: 1.1 }, /probability/],
	[{ probability: Number.NaN }, /probability/],
	[{ effect: "delay" }, /delay/],
	[{ effect: "delay", delayMs: 1e6 }, /at most 60 s/],
] as const)("a rule with %j is out of range", (change, message) => {
	expect(() => made([{ ...RULE, ...change }])).toThrow(message);
});

test.each([-1, 0.5, 2 ** 32])("seed %d is refused", (seed) => {
	expect(() => made([], seed)).toThrow(/fault seed/);
});
