/*
 * Damages a saved state in every way that still parses: each field in turn is missing, of another type, out of range,
 * or another number. Each restore must be refused with an ERR_STATE code, or the restored object must work. `restore`
 * throws to refuse. `use` works with the restored object.
 */
import { expect } from "vitest";
import { SnapshotError } from "../../src/base/errors.ts";
import type { Random } from "./random.ts";

/** Any plain data. */
type Plain = unknown;

const WRONG: readonly Plain[] = [
	undefined,
	null,
	true,
	false,
	0,
	-1,
	1,
	2.5,
	Number.NaN,
	Number.POSITIVE_INFINITY,
	255,
	65_536,
	2 ** 32 - 1,
	2 ** 32,
	2 ** 53,
	0n,
	-1n,
	1n << 32n,
	(1n << 64n) - 1n,
	1n << 64n,
	"",
	"x".repeat(100_000),
	new Uint8Array(0),
	new Uint8Array(5),
	new Uint8Array(70_000).fill(0xff),
	new Uint16Array(4),
	[],
	[{}],
	[null, 1],
	{},
	{ version: 1 },
];

/** Every place in `state`, as the list of keys that leads there. */
function placesOf(state: Plain, at: readonly string[] = []): string[][] {
	if (typeof state !== "object" || state === null || ArrayBuffer.isView(state)) return [[...at]];
	const inside = Object.entries(state).flatMap(([key, value]) => placesOf(value, [...at, key]));
	return [[...at], ...inside];
}

function replaced(state: Plain, [key, ...rest]: readonly string[], value: Plain): Plain {
	if (key === undefined) return value;
	const copy: Record<string, Plain> | Plain[] = Array.isArray(state) ? [...state] : { ...(state as object) };
	const fields = copy as Record<string, Plain>;
	if (rest.length === 0 && value === undefined && !Array.isArray(copy)) delete fields[key];
	else fields[key] = replaced(fields[key], rest, value);
	return copy;
}

/** All states that differ from `state` in one place, and `rounds` that differ in several. */
export function* damaged(state: Plain, random: Random, rounds = 200): Generator<Plain> {
	const places = placesOf(state);
	for (const place of places) for (const value of WRONG) yield replaced(state, place, value);
	for (let i = 0; i < rounds; i++) {
		let worse = state;
		for (let n = 1 + random.below(4); n > 0; n--) {
			const place = places[random.below(places.length)]!;
			const value = random.below(2) === 0 ? random.below(2 ** 32) : WRONG[random.below(WRONG.length)]!;
			try {
				worse = replaced(worse, place, value);
			} catch {
				/* What lay there is gone already. */
			}
		}
		yield worse;
	}
}

/**
 * Restores every damaged state, each by a `restore` of its own. Returns how many were refused and how many taken.
 *
 * @param restore to a fresh object; what it returns works with it
 */
export async function refusesOrWorks(
	state: Plain,
	random: Random,
	restore: (state: Plain) => () => void | Promise<void>,
): Promise<{ refused: number; taken: number }> {
	const count = { refused: 0, taken: 0 };
	for (const worse of damaged(state, random)) {
		let use: () => void | Promise<void>;
		try {
			use = restore(worse);
		} catch (error) {
			if (!(error instanceof SnapshotError)) throw error;
			expect(error.code).toMatch(/^ERR_STATE_(FORMAT|VERSION|MISMATCH)$/);
			expect(error.message.length).toBeLessThan(300);
			count.refused++;
			continue;
		}
		await use();
		count.taken++;
	}
	return count;
}
