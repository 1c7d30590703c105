/*
 * A log of which only the newest entries are kept. Each reader has a position of its own: a reader that is slow misses
 * the oldest entries, and costs nothing.
 */
export class BoundedLog<Entry> {
	readonly #entries: Entry[] = [];
	readonly #most: number;
	/** Entries that were ever added. */
	#end = 0;

	/** @param most entries that are kept */
	constructor(most: number) {
		this.#most = most;
	}

	/** The position after the newest entry. */
	get end(): number {
		return this.#end;
	}

	add(entry: Entry): void {
		this.#entries[this.#end % this.#most] = entry;
		this.#end++;
	}

	/** The entries from `position` on, and how many are missing because they were dropped before. */
	since(position: number): { readonly entries: Entry[]; readonly missed: number } {
		const first = Math.min(Math.max(position, this.#end - this.#most, 0), this.#end);
		const entries = Array.from({ length: this.#end - first }, (_, i) => this.#entries[(first + i) % this.#most]!);
		return { entries, missed: Math.max(0, first - position) };
	}
}
