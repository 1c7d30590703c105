/*
 * What a place costs that could tell an observer of an event while there is none: one look at a field. It is far below what
 * two runs of an exit differ by, so it is timed by itself.
 */
import { Observers } from "../../src/base/observer.ts";

/** An exit asks twice (exit, access). A kick asks four times: kick, pop, push, interrupt. The larger number stands for both. */
export const CHECKS = 4;
const ROUNDS = 2_000_000;

/** Nanoseconds of one look, the best of five rounds; the loop around it is part of them. */
export function checkNs(): number {
	/* Several, one with an observer, so that no compiler takes the answer for known. */
	const all = Array.from({ length: 16 }, () => new Observers());
	let seen = 0;
	all[15]!.attach({ kick: () => void seen++ });
	const round = () => {
		for (let i = 0; i < ROUNDS; i++) all[i % 15]!.observer?.kick?.("device", i);
	};
	all[15]!.observer?.kick?.("device", 0);
	let best = Number.POSITIVE_INFINITY;
	for (let i = 0; i < 5; i++) {
		const start = process.hrtime.bigint();
		round();
		best = Math.min(best, Number(process.hrtime.bigint() - start) / ROUNDS);
	}
	if (seen !== 1) throw new Error("an observer that is not there was called");
	return best;
}
