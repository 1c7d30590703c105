/*
 * Phases between marks, and how they are told.
 */
import { expect, test } from "vitest";
import { clockMs, phasesOf, Timeline, totalMs } from "../../src/base/timeline.ts";
import { describeTimings, timingsOf } from "../../src/cli/timings.ts";

test("phasesOf gives each phase the time since the mark before, whatever order the marks are in", () => {
	const marks = [
		{ name: "third", atMs: 1030 },
		{ name: "first", atMs: 1010 },
		{ name: "second", atMs: 1010.5 },
	];
	expect(phasesOf(1000, marks)).toEqual([
		{ name: "first", ms: 10 },
		{ name: "second", ms: 0.5 },
		{ name: "third", ms: 19.5 },
	]);
	expect(marks[0]!.name).toBe("third");
});

test("phasesOf has no phase before the start", () => {
	const marks = [
		{ name: "before", atMs: 900 },
		{ name: "after", atMs: 1001 },
	];
	expect(phasesOf(1000, marks)).toEqual([
		{ name: "before", ms: 0 },
		{ name: "after", ms: 1 },
	]);
});

test("phases sum to the time from the start to the last mark, however they are rounded", () => {
	for (let i = 0; i < 200; i++) {
		const marks = Array.from({ length: 30 }, (_, n) => ({ name: `${n}`, atMs: 1e6 + Math.random() * 1000 }));
		const last = Math.max(...marks.map(({ atMs }) => atMs));
		const phases = phasesOf(1e6, marks);
		expect(totalMs(phases)).toBe(Math.round((last - 1e6) * 10) / 10);
		for (const { ms } of phases) expect(ms).toBe(Math.round(ms * 10) / 10);
	}
});

test("Timeline notes moments on a clock that goes on in all processes", () => {
	const before = clockMs();
	const timeline = new Timeline();
	timeline.mark("one");
	timeline.add([{ name: "of another process", atMs: 5 }]);
	const [one, other] = timeline.marks;
	expect(one!.atMs).toBeGreaterThanOrEqual(before);
	expect(one!.atMs).toBeLessThanOrEqual(clockMs());
	expect(other).toEqual({ name: "of another process", atMs: 5 });
});

test("describeTimings has all phases and their sum", () => {
	const timings = timingsOf(0, [
		{ name: "exec", atMs: 10 },
		{ name: "node", atMs: 41.25 },
	]);
	expect(timings).toEqual({
		phases: [
			{ name: "exec", ms: 10 },
			{ name: "node", ms: 31.3 },
		],
		totalMs: 41.3,
	});
	expect(describeTimings(timings)).toBe("exec 10 ms, node 31.3 ms, total 41.3 ms");
});
