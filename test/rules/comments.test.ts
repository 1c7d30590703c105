import { expect, test } from "vitest";
import { filesOf, textOf } from "./sources.ts";

const files = [
	...filesOf("src", /\.(ts|js)$/),
	...filesOf("test", /\.(ts|js)$/),
	...filesOf("docs", /\.ts$/),
	...filesOf("scripts", /\.mjs$/),
	...filesOf("native", /\.[ch]$/),
	...filesOf("guests", /\.(?:[ch]|ts)$/),
	"vitest.config.ts",
];

/** Comments for a tool, which has no other form of them. */
const FOR_TOOLS = /\/\/ (?:biome-ignore|@ts-)/;

test("comments are written /* so */ in all languages that have both kinds", () => {
	const others = files.flatMap((path) =>
		textOf(path)
			.replace(/\/\*[\s\S]*?\*\//g, "")
			.split("\n")
			.filter((line) => /^\s*\/\/|[;,{}()[\]]\s+\/\/(?:\s|$)/.test(line) && !FOR_TOOLS.test(line))
			.map((line) => `${path}: ${line.trim()}`),
	);
	expect(others).toEqual([]);
});

/** Words of riddles: "whoever asks the third time means it". Name the one who does it. */
const RIDDLES =
	/\b(?:who(?:so)?ever|whichever|whosever|whereupon|thereof|that which|of its own accord|(?:has|lost) (?:its|their) say)\b/i;

test("comments and pages name the one who acts", () => {
	const pages = [...filesOf("docs", /\.md$/), "README.md", "CONTRIBUTING.md", "SECURITY.md"];
	const riddles = [...files, ...pages]
		.filter((path) => !path.startsWith("test/rules/"))
		.flatMap((path) =>
			textOf(path)
				.split("\n")
				.map((line) => `${path}: ${line.trim()}`),
		)
		.filter((line) => RIDDLES.test(line));
	expect(riddles).toEqual([]);
});

const MOST_WORDS = 40;

/** The sentences of a file's comments, without code examples and without tags, which are lists. */
function sentencesOf(path: string): string[] {
	const comments = textOf(path).match(/\/\*[\s\S]*?\*\//g) ?? [];
	return comments
		.map((comment) => comment.replace(/^\/\*+|\*+\/$/g, "").replace(/\n\s*\* ?/g, "\n"))
		.flatMap((comment) => comment.split(/\n\s*\n|\n(?=\s*(?:@|- ))/))
		.filter((paragraph) => !/^ {4}/m.test(paragraph) && !paragraph.trim().startsWith("@"))
		.flatMap((paragraph) => paragraph.trim().split(/(?<=[.!?:])\s+/));
}

test("sentences of comments are short enough to be read once", () => {
	const long = files.flatMap((path) =>
		sentencesOf(path)
			.filter((sentence) => sentence.split(/\s+/).length > MOST_WORDS)
			.map((sentence) => `${path}: ${sentence.replace(/\s+/g, " ")}`),
	);
	expect(long).toEqual([]);
});
