/*
 * Finds names that are similar to a missing image's, for the hint of ERR_IMAGE_NOT_FOUND.
 */

/** At most three of `names` with the same repository, one that contains the other, or one at most two letters apart. */
export function similarNames(name: string, names: readonly string[]): string[] {
	return names.filter((other) => isNear(name, other)).slice(0, 3);
}

function isNear(a: string, b: string): boolean {
	const [x, y] = [a, b].map((name) => name.replace(/^.*\//, "").replace(/[:@].*$/, "")) as [string, string];
	return x === y || (x.length > 2 && y.includes(x)) || (y.length > 2 && x.includes(y)) || distance(x, y) <= 2;
}

/** How many letters must be inserted, removed or replaced (Levenshtein's distance). */
function distance(a: string, b: string): number {
	let row = Array.from({ length: b.length + 1 }, (_, i) => i);
	for (let i = 1; i <= a.length; i++) {
		const next = [i];
		for (let j = 1; j <= b.length; j++) {
			next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
		}
		row = next;
	}
	return row[b.length]!;
}
