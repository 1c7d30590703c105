/*
 * The phases of a kernel's boot by the stamps of its messages.
 */
import { describe, expect, test } from "vitest";
import { ConsoleTimes, kernelMarks, lastStampMs } from "../../src/machine/kernel-log.ts";

const LOG = `[    0.000000] Linux version 6.1.0 (debian@kernel)
[    0.050000] Memory: 94320K/131072K available (8192K kernel code)
[    0.090000] smp: Brought up 1 node, 2 CPUs
[    0.300000] Freeing unused kernel image (initmem) memory: 1234K
[    0.310000] Run /init as init process
`;
const MARKS = [
	{ name: "kernel entry", atMs: 1000 },
	{ name: "kernel memory", atMs: 1050 },
	{ name: "kernel processors", atMs: 1090 },
	{ name: "kernel drivers", atMs: 1300 },
	{ name: "kernel init", atMs: 1310 },
];

const at = (zeroMs: number) => ({ zeroMs, startMs: 0 });

describe("kernelMarks", () => {
	test("tells nothing to have been before the guest ran", () => {
		const times = kernelMarks(LOG, { zeroMs: 900, startMs: 1000 }).map(({ atMs }) => atMs);
		expect(times).toEqual([1000, 1000, 1000, 1200, 1210]);
	});
	test("finds the landmarks of a log", () => {
		expect(kernelMarks(LOG, at(1000))).toEqual(MARKS);
	});
	test("takes each once, in their order, and leaves out what a kernel does not say", () => {
		const log = `${LOG.split("\n")[3]}\n[    0.305000] Memory: 1K/2K available\n${LOG}[    9.000000] Run /init as init process\n`;
		expect(kernelMarks(log, at(0))).toEqual([
			{ name: "kernel entry", atMs: 0 },
			{ name: "kernel drivers", atMs: 300 },
			{ name: "kernel init", atMs: 310 },
		]);
	});
	test("reads stamps with the caller of printk, and no other text", () => {
		const log =
			"[   12.500000][    T1] Run /init as init process\n[1.5] Run /init as init process\nRun /init as init process\n";
		expect(kernelMarks(log, at(0))).toEqual([
			{ name: "kernel entry", atMs: 0 },
			{ name: "kernel init", atMs: 12_500 },
		]);
		expect(kernelMarks("", at(5))).toEqual([{ name: "kernel entry", atMs: 5 }]);
	});
});

test("lastStampMs is that of the last message", () => {
	expect(lastStampMs(`1.23\n${LOG}`)).toBe(310);
	expect(lastStampMs(`${LOG}no stamp\n`)).toBeUndefined();
	expect(lastStampMs("")).toBeUndefined();
});

/** Feeds a console in pieces that come at their times. */
function consoleTimes(...pieces: (readonly [text: string, nowMs: number])[]) {
	const times = new ConsoleTimes();
	for (const [text, nowMs] of pieces) times.write(Buffer.from(text), nowMs);
	return times.marks(0);
}

describe("ConsoleTimes", () => {
	test("finds when the clock began by the line that came soonest, and the first byte that is not the kernel's", () => {
		const late = LOG.split("\n").slice(0, 3).join("\r\n");
		const marks = consoleTimes(
			[`${late}\r\n`, 1200],
			[`${LOG.split("\n")[3]}\n`, 1300],
			[`${LOG.split("\n")[4]}\r\n`, 1340],
			["h", 1400],
			["ello\n", 1500],
		);
		expect(marks).toEqual([...MARKS, { name: "first byte", atMs: 1400 }]);
	});
	test("takes no piece of a stamp for a first byte, wherever the pieces end", () => {
		const text = `${LOG.replaceAll("\n", "\r\n")}hello\n`;
		const at = text.indexOf("hello");
		for (let size = 1; size < 40; size++) {
			const pieces: [string, number][] = [];
			for (let from = 0; from < text.length; from += size) pieces.push([text.slice(from, from + size), from]);
			const first = consoleTimes(...pieces).find(({ name }) => name === "first byte");
			expect(first).toEqual({ name: "first byte", atMs: at - (at % size) });
		}
	});
	test("knows only the first byte of a quiet kernel, and nothing of an empty console", () => {
		expect(consoleTimes(["\r\n", 7], ["more", 9])).toEqual([{ name: "first byte", atMs: 7 }]);
		expect(consoleTimes(["[", 7], ["x] 1", 9])).toEqual([{ name: "first byte", atMs: 7 }]);
		expect(consoleTimes()).toEqual([]);
		expect(consoleTimes(["[    1.000", 7])).toEqual([]);
	});
	test("takes a loader's words before the kernel for no first byte", () => {
		const marks = consoleTimes(["Decompressing Linux...\n", 900], [LOG, 1310], ["sh: hello", 1320]);
		expect(marks).toEqual([...MARKS, { name: "first byte", atMs: 1320 }]);
	});
	test("bears a guest that never ends a line, and one that prints for ever", () => {
		const times = new ConsoleTimes();
		for (let i = 0; i < 100; i++) times.write(Buffer.alloc(65_536, "["), i);
		for (let i = 0; i < 100; i++) times.write(Buffer.alloc(65_536, "x\n"), 1000 + i);
		times.write(Buffer.from(LOG), 5000);
		expect(times.marks(0)).toEqual([{ name: "first byte", atMs: 0 }]);
	});
});
