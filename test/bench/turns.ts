/*
 * Measurements in turns, so that a busy moment of the host hits none alone.
 */

/** Measures all, in some rounds; the best of each. */
export async function best(
	measures: (() => number | Promise<number>)[],
	better: (a: number, b: number) => number,
	rounds = 3,
): Promise<number[]> {
	const results: number[] = [];
	for (let round = 0; round < rounds; round++) {
		for (const [i, measure] of measures.entries()) {
			const result = await measure();
			results[i] = round === 0 ? result : better(results[i]!, result);
		}
	}
	return results;
}
