/*
 * The formats of snapshot.json, and what brings an older one up to date. A step takes what the format before has, in any
 * form, and adds what is new. Whether all fields are right is checked afterwards, once (manifest.ts).
 *
 *     1   the first one
 *     2   `id`, and `base` for a snapshot that has only the pages that differ from another one
 */
import { createHash } from "node:crypto";

/** The format that this tsvmm writes. */
export const FORMAT = 2;

type Fields = Record<string, unknown>;

/** By the format that they start from. */
const STEPS: readonly [from: number, step: (fields: Fields) => Fields][] = [
	[1, (fields) => ({ ...fields, id: snapshotId([sumOf(fields.state), sumOf(fields.memory)]) })],
];

/** A snapshot.json of this format, made of one of this or an older format; what is none of these stays as it is. */
export function migrate(value: unknown): unknown {
	if (typeof value !== "object" || value === null) return value;
	let fields = value as Fields;
	for (const [from, step] of STEPS) if (fields.format === from) fields = { ...step(fields), format: from + 1 };
	return fields;
}

/** @param sums of state, memory, and for a snapshot with a base: its pages and the base's id */
export function snapshotId(sums: readonly string[]): string {
	return createHash("sha256").update(sums.join("\n")).digest("hex");
}

function sumOf(file: unknown): string {
	return `${(file as Fields | null | undefined)?.sha256}`;
}
