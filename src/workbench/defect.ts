/*
 * Where an error of a user's file comes from: the file and the line in it, as an editor has it, and the text of that line.
 */
import { readFileSync } from "node:fs";
import { basename, relative, resolve } from "node:path";
import { explain } from "../base/errors.ts";

/** An error with its place in the user's files. */
export interface Defect {
	/** "TypeError: Cannot read properties of undefined (reading 'length')". */
	readonly what: string;
	/** "devices/reverser.ts:14", relative to the working directory where that is shorter; missing when unknown. */
	readonly place?: string;
	/** The text of the line, without its indentation. */
	readonly text?: string;
}

/** @param files of the user, absolute */
export function defectOf(error: unknown, files: readonly string[]): Defect {
	const what = error instanceof Error ? `${error.name}: ${error.message}` : explain(error);
	const stack = error instanceof Error ? `${error.message}\n${error.stack ?? ""}` : "";
	for (const line of stack.split("\n")) {
		const file = files.find((path) => line.includes(`${path}:`) || line.includes(`${path}?v=`));
		if (file === undefined) continue;
		const at = /^(?:\?v=\d+)?:(\d+)/.exec(line.slice(line.indexOf(file) + file.length));
		if (at === null) continue;
		const plain = what.replace(`${file}:`, "").replace(/^SyntaxError: \d+:\d+: /, "SyntaxError: ");
		const text = lineOf(file, Number(at[1]));
		return { what: plain, place: `${shown(file)}:${at[1]}`, ...(text === undefined ? {} : { text }) };
	}
	return { what };
}

/** Two lines: what happened, and where. */
export function defectText({ what, place, text }: Defect): string {
	if (place === undefined) return what;
	return `${what}\n  ${place}${text === undefined ? "" : `: ${text}`}`;
}

/** A file's name for people. */
export function shown(file: string): string {
	const path = relative(process.cwd(), file);
	return path.startsWith("..") ? resolve(file) : path || basename(file);
}

function lineOf(file: string, line: number): string | undefined {
	try {
		const text = readFileSync(file, "utf8").split("\n")[line - 1]?.trim();
		return text === "" ? undefined : text;
	} catch {
		return undefined;
	}
}
