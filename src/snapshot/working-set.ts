/*
 * The working set of a snapshot: the pages of its memory that a machine has used when it went on from there for the first
 * time. Later machines have them read ahead. It is advice in a file beside the snapshot, which does not belong to it: it
 * has no checksum, and one that is missing, damaged or another snapshot's is as none.
 *
 *     {"version": 1, "snapshot": "ID", "pages": [first, end, first, end, ...]}
 */
import { readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PAGE_BYTES, type PageRun, type PageSet } from "../base/page-set.ts";
import * as z from "../base/schema.ts";
import { temporaryPath } from "../host/durable-file.ts";
import type { Manifest } from "./manifest.ts";

/** The file of the working set, in a snapshot's directory. */
export const WORKING_SET = "working-set";

/** More are not read ahead: 256 MiB. */
const MAX_PAGES = 1 << 16;
const MAX_RUNS = 4096;
/** More than all numbers of MAX_RUNS take. */
const MAX_BYTES = 1 << 18;
/** Runs with fewer pages between them become one: the host maps as many at once anyway. */
const GAP_PAGES = 16;

const Content = z.object({ version: z.literal(1), snapshot: z.string(), pages: z.array(z.int()) });

/** The working set of a snapshot, as runs in order; undefined when it has none that can be used. */
export async function readWorkingSet(
	path: string,
	{ id, memory }: Pick<Manifest, "id" | "memory">,
): Promise<PageRun[] | undefined> {
	try {
		const file = join(path, WORKING_SET);
		const found = await stat(file);
		if (!found.isFile() || found.size > MAX_BYTES) return undefined;
		const { snapshot, pages } = Content.parse(JSON.parse(await readFile(file, "utf8")));
		return snapshot === id ? runsOf(pages, memory.bytes / PAGE_BYTES) : undefined;
	} catch {
		return undefined;
	}
}

/**
 * Writes a snapshot's working set. It replaces another one.
 *
 * @param touched pages that were used
 * @throws what writing it says, such as EROFS; nothing is left of it then
 */
export async function writeWorkingSet(path: string, { id }: Pick<Manifest, "id">, touched: PageSet): Promise<void> {
	const text = JSON.stringify({ version: 1, snapshot: id, pages: joined(touched).flat() });
	const file = join(path, WORKING_SET);
	const temporary = temporaryPath(file);
	try {
		/* Not synced: one that a power cut has left empty is as none. */
		await writeFile(temporary, `${text}\n`, { flag: "wx", mode: 0o600 });
		await rename(temporary, file);
	} finally {
		await rm(temporary, { force: true });
	}
}

/** Whether a file in a snapshot's directory is a working set, or one whose writer was killed. */
export function isWorkingSet(name: string): boolean {
	return name === WORKING_SET || name.startsWith(`.${WORKING_SET}.`);
}

/** How many pages runs have. */
export function pagesIn(runs: readonly PageRun[]): number {
	return runs.reduce((sum, [start, end]) => sum + end - start, 0);
}

/** @returns undefined when the numbers are no runs in order of the first `count` pages, or too many */
function runsOf(numbers: readonly number[], count: number): PageRun[] | undefined {
	const runs: PageRun[] = [];
	let last = 0;
	for (let i = 0; i < numbers.length; i += 2) {
		const [start, end = 0] = numbers.slice(i, i + 2) as [number, number?];
		if (start < last || end <= start || end > count) return undefined;
		runs.push([start, end]);
		last = end;
	}
	return runs.length <= MAX_RUNS && pagesIn(runs) <= MAX_PAGES ? runs : undefined;
}

/** The pages as few runs, with some pages between them; the first ones when they are too many. */
function joined(pages: PageSet): PageRun[] {
	const runs: [number, number][] = [];
	let room = MAX_PAGES;
	for (const [start, end] of pages.runs()) {
		const last = runs.at(-1);
		const isNear = last !== undefined && start - last[1] < GAP_PAGES;
		if (!isNear && runs.length === MAX_RUNS) break;
		const taken = Math.min(isNear ? end - last[1] : end - start, room);
		room -= taken;
		if (isNear) last[1] += taken;
		else runs.push([start, start + taken]);
		if (room === 0) break;
	}
	return runs;
}
