/*
 * Values in templates: which are true, how `range` goes through them, how each prints, and the functions that Go and
 * Docker give to a template.
 */

/** Entries of a list or a map. A map is sorted by name, as in Go. */
export function entriesOf(value: unknown): [unknown, unknown][] {
	if (Array.isArray(value)) return [...value.entries()];
	if (typeof value === "number") return Array.from({ length: value }, (_, i) => [i, i]);
	if (typeof value !== "object" || value === null) return [];
	return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** False for false, 0, "", a missing value, and an empty list or map. */
export function truth(value: unknown): boolean {
	if (Array.isArray(value)) return value.length > 0;
	if (typeof value === "object" && value !== null) return Object.keys(value).length > 0;
	return Boolean(value);
}

export function show(value: unknown): string {
	if (value === undefined || value === null) return "<no value>";
	if (typeof value === "function") return show(value());
	if (Array.isArray(value)) return `[${value.map(show).join(" ")}]`;
	if (typeof value !== "object") return String(value);
	return `map[${entriesOf(value)
		.map(([key, one]) => `${key}:${show(one)}`)
		.join(" ")}]`;
}

/** JSON as Go writes it: fields sorted by name, without methods. */
function json(value: unknown): string {
	return JSON.stringify(value, (_, inner: unknown) =>
		typeof inner === "object" && inner !== null && !Array.isArray(inner)
			? Object.fromEntries(entriesOf(inner) as [string, unknown][])
			: inner,
	);
}

function index(value: unknown, ...keys: unknown[]): unknown {
	return keys.reduce<unknown>((at, key) => {
		if (Array.isArray(at)) {
			if (typeof key !== "number" || key < 0 || key >= at.length) throw new Error(`there is no element ${show(key)}`);
			return at[key];
		}
		const name = String(key);
		return typeof at === "object" && at !== null && Object.hasOwn(at, name)
			? (at as Record<string, unknown>)[name]
			: "";
	}, value);
}

function length(value: unknown): number {
	return typeof value === "string" ? Buffer.byteLength(value) : entriesOf(value).length;
}

function printf(format: unknown, ...values: unknown[]): string {
	let next = 0;
	return String(format).replace(/%(-?)(\d*)([svdqtx%])/g, (_, left: string, width: string, verb: string) => {
		if (verb === "%") return "%";
		const value = values[next++];
		const text = verb === "q" ? JSON.stringify(show(value)) : verb === "x" ? Number(value).toString(16) : show(value);
		return left === "" ? text.padStart(Number(width)) : text.padEnd(Number(width));
	});
}

const compare = (a: unknown, b: unknown): number =>
	typeof a === "number" && typeof b === "number" ? a - b : show(a) < show(b) ? -1 : show(a) > show(b) ? 1 : 0;

/** By the name that a template uses. @throws Error that says what is wrong with the arguments */
export const FUNCTIONS: Record<string, ((...values: unknown[]) => unknown) | undefined> = {
	json,
	index,
	len: length,
	printf,
	print: (...values) => values.map(show).join(""),
	println: (...values) => `${values.map(show).join(" ")}\n`,
	join: (list, separator) => (list as unknown[]).map(show).join(String(separator)),
	split: (text, separator) => String(text).split(String(separator)),
	lower: (text) => String(text).toLowerCase(),
	upper: (text) => String(text).toUpperCase(),
	title: (text) => String(text).replace(/\b[a-z]/g, (letter) => letter.toUpperCase()),
	truncate: (text, most) => String(text).slice(0, Number(most)),
	not: (value) => !truth(value),
	and: (...values) => values.find((value) => !truth(value)) ?? values.at(-1),
	or: (...values) => values.find(truth) ?? values.at(-1),
	eq: (value, ...others) => others.some((other) => compare(value, other) === 0),
	ne: (a, b) => compare(a, b) !== 0,
	lt: (a, b) => compare(a, b) < 0,
	le: (a, b) => compare(a, b) <= 0,
	gt: (a, b) => compare(a, b) > 0,
	ge: (a, b) => compare(a, b) >= 0,
};
