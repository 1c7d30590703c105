/*
 * Which labs a user has solved: learn.json in the state directory. A damaged file counts as none, because a check can be
 * run again.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { stateDirectory } from "../host/directories.ts";
import { writeDurably } from "../host/durable-file.ts";

const path = (): string => join(stateDirectory(), "learn.json");

/** Numbers of solved labs, ascending. */
export function solvedLabs(): number[] {
	try {
		const { solved } = JSON.parse(readFileSync(path(), "utf8")) as { solved?: unknown };
		if (!Array.isArray(solved)) return [];
		return solved.filter((number): number is number => Number.isInteger(number)).sort((a, b) => a - b);
	} catch {
		return [];
	}
}

/** Remembers that a lab is solved. */
export async function markSolved(number: number): Promise<void> {
	const before = solvedLabs();
	if (before.includes(number)) return;
	const text = `${JSON.stringify({ solved: [...before, number].sort((a, b) => a - b) })}\n`;
	await writeDurably(path(), text);
}
