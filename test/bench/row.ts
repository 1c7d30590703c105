/*
 * One line of the benchmark's table: our result and the reference's, from the same run on the same host. The ratio
 * means more than the figures.
 */

export interface BenchRow {
	readonly name: string;
	readonly unit: "ns" | "us" | "ms" | "MiB" | "per second";
	readonly ours: number;
	readonly reference: number;
	/** What the reference is. */
	readonly against: string;
	/** Above 1 is better than the reference. */
	readonly ratio: number;
	/** A point of a chart, whose series begins at `first`. */
	readonly plot?: { readonly chart: string; readonly x: number; readonly first: number };
}

/** A row for a time, or for memory: the ratio is reference / ours. */
export function timeRow(
	name: string,
	unit: "ns" | "us" | "ms" | "MiB",
	ours: number,
	reference: number,
	against: string,
): BenchRow {
	return { name, unit, ours, reference, against, ratio: reference / ours };
}

/** A row for a rate: the ratio is ours / reference. */
export function rateRow(name: string, ours: number, reference: number, against: string): BenchRow {
	return { name, unit: "per second", ours, reference, against, ratio: ours / reference };
}

/** The rows as a table of text. */
export function table(rows: readonly BenchRow[]): string {
	const cells = rows.map((row) => [
		row.name,
		figure(row.ours),
		figure(row.reference),
		row.unit,
		row.ratio.toPrecision(2),
		row.against,
	]);
	const lines = [["benchmark", "tsvmm", "reference", "unit", "ratio", "reference is"], ...cells];
	const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
	return lines
		.map((line) =>
			line
				.map((cell, column) => cell.padEnd(widths[column]!))
				.join("  ")
				.trimEnd(),
		)
		.join("\n");
}

/** Three digits at least, no exponent. */
function figure(value: number): string {
	return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
