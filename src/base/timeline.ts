/*
 * How long the phases of a start took. Processes note when they have reached what; a phase is the time since the note before.
 * So there are no gaps between phases, and their sum is the whole time.
 *
 *     start ---- exec ---- node ---- bundle ---- ... ---- first byte         each name ends the phase that it names
 */

/** A moment, and the phase that ends there. */
export interface Mark {
	readonly name: string;
	/** On `clockMs`. */
	readonly atMs: number;
}

export interface Phase {
	readonly name: string;
	/** In tenths of a millisecond. */
	readonly ms: number;
}

/** Milliseconds of CLOCK_MONOTONIC, which all processes of this host have in common. */
export function clockMs(): number {
	return Number(process.hrtime.bigint()) / 1e6;
}

export class Timeline {
	readonly #marks: Mark[] = [];

	get marks(): readonly Mark[] {
		return this.#marks;
	}

	/** The phase `name` ends now. */
	mark(name: string, atMs = clockMs()): void {
		this.#marks.push({ name, atMs });
	}

	/** Takes over what others have noted. */
	add(marks: readonly Mark[]): void {
		this.#marks.push(...marks);
	}
}

/**
 * The phases between marks, whatever order these are in. Of marks before `startMs` nothing is known: their phases take no time.
 * Times are rounded so that their sum is the rounded time from the start to the last mark.
 */
export function phasesOf(startMs: number, marks: readonly Mark[]): Phase[] {
	let before = 0;
	return [...marks]
		.sort((a, b) => a.atMs - b.atMs)
		.map(({ name, atMs }) => {
			const tenths = Math.max(before, Math.round((atMs - startMs) * 10));
			const ms = (tenths - before) / 10;
			before = tenths;
			return { name, ms };
		});
}

/** The time that phases took together. */
export function totalMs(phases: readonly Phase[]): number {
	return phases.reduce((sum, { ms }) => sum + Math.round(ms * 10), 0) / 10;
}
