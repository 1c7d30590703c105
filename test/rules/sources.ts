/*
 * The repository's files as the rules see them: which there are, what they import, their text.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** Files below `directory` whose name matches, as paths relative to the repository, sorted. */
export function filesOf(directory: string, pattern: RegExp): string[] {
	return readdirSync(join(root, directory), { recursive: true, encoding: "utf8" })
		.map((name) => join(directory, name))
		.filter((path) => pattern.test(path) && !/(^|\/)(node_modules|out|build)\//.test(path))
		.sort();
}

export const textOf = (path: string): string => readFileSync(join(root, path), "utf8");

/** The text without comments; strings stay. Good enough for rules: a comment opener inside a string is not expected. */
export function codeOf(path: string): string {
	return textOf(path)
		.replace(/\/\*[\s\S]*?\*\//g, "")
		.replace(/(^|[\s;{}(,])\/\/.*$/gm, "$1");
}

export interface Import {
	/** The file that is imported, relative to the repository. */
	target: string;
	/** What is imported is types alone. */
	typeOnly: boolean;
}

/** The relative imports and re-exports of a file, static and dynamic. */
export function importsOf(path: string): Import[] {
	const found: Import[] = [];
	const pattern = /(?:\b(?:import|export)\s+(type\s+)?(?:([^;"']*?)\s+from\s+)?|\bimport\(\s*)["'](\.[^"']+)["']/g;
	for (const [, type, names, specifier] of codeOf(path).matchAll(pattern)) {
		const inner = /^\{([^}]*)\}$/.exec(names?.trim() ?? "")?.[1]?.split(",") ?? [];
		const named = inner.map((name) => name.trim()).filter((name) => name !== "");
		found.push({
			target: normalize(join(dirname(path), specifier!)),
			typeOnly: type !== undefined || (named.length > 0 && named.every((name) => name.startsWith("type "))),
		});
	}
	return found;
}
