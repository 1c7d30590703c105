import { expect, test } from "vitest";
import { codeOf, filesOf, textOf } from "./sources.ts";

/** Codes in the sources, without those that are only compared with. */
function codesInSources(): Set<string> {
	const codes = new Set<string>();
	for (const path of filesOf("src", /\.ts$/)) {
		for (const [, code] of codeOf(path).matchAll(/["'`](ERR_[A-Z0-9_]+)["'`]/g)) codes.add(code!);
	}
	return codes;
}

/** Codes of Node and its packages that we look for but do not raise. */
const FOREIGN = /^ERR_(STREAM|SOCKET|INVALID|MODULE|OUT_OF_RANGE|BUFFER|CHILD_PROCESS|DLOPEN|HTTP|TTY)_?/;

const headings = [...textOf("docs/errors.md").matchAll(/^#{2,4} `?(ERR_[A-Z0-9_]+)`?\s*$/gm)].map(([, code]) => code!);

test("docs/errors.md has a paragraph for every error code in src", () => {
	const missing = [...codesInSources()].filter((code) => !headings.includes(code) && !FOREIGN.test(code));
	expect(missing.sort()).toEqual([]);
});

test("docs/errors.md explains no error code that src does not have", () => {
	const codes = codesInSources();
	expect(headings.filter((code) => !codes.has(code))).toEqual([]);
});

test("docs/errors.md explains each error code once, in more than a word", () => {
	expect(headings.filter((code, i) => headings.indexOf(code) !== i)).toEqual([]);
	const sections = textOf("docs/errors.md")
		.split(/^#{2,4} (?=`?ERR_)/m)
		.slice(1);
	const empty = sections.filter((section) => section.split("\n").slice(1).join(" ").trim().length < 20);
	expect(empty.map((section) => section.split("\n")[0])).toEqual([]);
});
