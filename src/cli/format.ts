/*
 * The output of listings (`images`, `ps`, `volume ls`) and of `inspect`: Docker's columns, or the form that `--format`
 * asks for. A listing passes its rows as objects of fields. `inspect` passes its objects unchanged.
 */
import { parseTemplate } from "./template.ts";

/** One line of a listing. A function is a method, as in {{.Label "name"}}; it does not appear in JSON. */
export type Row = Readonly<Record<string, unknown>>;

export interface Listing {
	/** Heading of each field: { ID: "CONTAINER ID" }. A field without one has its name in capitals. */
	readonly headings: Readonly<Record<string, string>>;
	/** The table without --format, as a template: "{{.ID}}\t{{.Names}}". */
	readonly table: string;
}

/** For the help of --format. */
export const FORMAT_HELP = "json, 'table TEMPLATE' or a Go template";

/** Spaces between columns, and the least width of a column with them, as in Docker. */
const GAP = 3;
const LEAST_WIDTH = 10;

/**
 * The rows of a listing, each line with its newline: a table with headings, or lines as `format` has them.
 *
 * @param format "table", "table TEMPLATE", "json" (an object per line) or a template per line, in which \t and \n are
 * tab and newline; the listing's table when missing
 * @throws UsageError ERR_FORMAT
 */
export function formatRows(rows: readonly Row[], { headings, table }: Listing, format = "table"): string {
	const wanted = withEscapes(format);
	if (wanted === "json") return lines(rows, parseTemplate("{{json .}}"));
	const tabular = /^table(?:\s+|$)(.*)$/s.exec(wanted);
	if (tabular === null) return lines(rows, parseTemplate(wanted));
	const template = parseTemplate(tabular[1] || table);
	return align([template(headingRow(headings)), ...rows.map((row) => template(row))]);
}

/**
 * What `inspect` prints: an indented JSON list of `values`; with "json" the list on one line; else a line each as the
 * template has it.
 *
 * @throws UsageError ERR_FORMAT
 */
export function formatValues(values: readonly unknown[], format?: string): string {
	if (format === undefined || format === "") return `${JSON.stringify(values, undefined, 4)}\n`;
	if (format === "json") return `${JSON.stringify(values)}\n`;
	return lines(values, parseTemplate(withEscapes(format)));
}

function withEscapes(format: string): string {
	return format.replaceAll("\\t", "\t").replaceAll("\\n", "\n");
}

function lines<T>(values: readonly T[], template: (value: T) => string): string {
	return values.map((value) => `${template(value)}\n`).join("");
}

/** A row for the headings: each field is its own heading. The heading of a label is the end of its name. */
function headingRow(headings: Readonly<Record<string, string>>): unknown {
	const label = (name: string) => name.split(".").at(-1)!.replace(/[-_]/g, " ");
	return new Proxy(headings, {
		get: (_, name) => (name === "Label" ? label : (headings[String(name)] ?? String(name).toUpperCase())),
		getOwnPropertyDescriptor: () => ({ configurable: true, enumerable: true }),
	});
}

/** Lines of cells between tabs as columns. The last cell of a line widens no column. */
function align(rows: readonly string[]): string {
	const cells = rows.map((row) => row.split("\t"));
	const widths: number[] = [];
	for (const row of cells) {
		for (const [i, cell] of row.slice(0, -1).entries()) {
			widths[i] = Math.max(widths[i] ?? LEAST_WIDTH, [...cell].length + GAP);
		}
	}
	const pad = (cell: string, i: number, row: string[]) =>
		i === row.length - 1 ? cell : cell + " ".repeat(widths[i]! - [...cell].length);
	return cells.map((row) => `${row.map(pad).join("")}\n`).join("");
}
