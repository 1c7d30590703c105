/*
 * The pages of the documentation and the fenced blocks in them.
 */
import { filesOf, textOf } from "../rules/sources.ts";

/** Every page: those of docs/ and those at the top. */
export const PAGES: readonly string[] = [
	...["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"],
	...filesOf("docs", /\.md$/).filter((path) => !path.includes("/.vitepress/")),
];

export interface Block {
	page: string;
	/** Line of its first line, from 1. */
	line: number;
	/** "ts", "json", "" */
	language: string;
	text: string;
}

/** All fenced blocks of `page`. */
export function blocksOf(page: string): Block[] {
	const blocks: Block[] = [];
	let open: Block | undefined;
	for (const [index, line] of textOf(page).split("\n").entries()) {
		const fence = /^ *```(\w*)/.exec(line);
		if (fence === null) {
			if (open !== undefined) open.text += `${line}\n`;
		} else if (open === undefined) {
			open = { page, line: index + 2, language: fence[1] ?? "", text: "" };
		} else {
			blocks.push(open);
			open = undefined;
		}
	}
	if (open !== undefined) throw new Error(`${page}: a fence at line ${open.line - 1} has no end`);
	return blocks;
}
