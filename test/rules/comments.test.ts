import { expect, test } from "vitest";
import { filesOf, textOf } from "./sources.ts";

const files = [
	...filesOf("src", /\.ts$/),
	...filesOf("test", /\.ts$/),
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
