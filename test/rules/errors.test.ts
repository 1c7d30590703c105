import { ts } from "ts-morph";
import { expect, test } from "vitest";
import { parse } from "./definitions.ts";
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

/** What a hint may begin with. Add a verb when a hint needs it. */
const VERBS =
	/^(?:Add|Build|Check|Choose|Convert|Copy|Decompress|Delete|Do not|Enable|End|Fill|Free|Get|Give|Import|Install|Leave|Load|Make|Mend|Name|Pack|Pull|Raise|Read|Remove|Run|See|Set|Start|Stop|Take|Try|Unpack|Use|Write)[: ]/;

/** The texts that an expression may be: "a", `a ${b}`, and both branches of a condition. */
function textsOf(node: ts.Node): string[] {
	if (ts.isStringLiteralLike(node)) return [node.text];
	if (ts.isTemplateExpression(node)) return [node.getText().slice(1, -1)];
	if (ts.isConditionalExpression(node)) return [...textsOf(node.whenTrue), ...textsOf(node.whenFalse)];
	return [];
}

/** The texts of all properties and variables of this name. */
function textsNamed(node: ts.Node, name: RegExp): string[] {
	const named = (ts.isPropertyAssignment(node) || ts.isVariableDeclaration(node)) && name.test(node.name.getText());
	const own = named && node.initializer !== undefined ? textsOf(node.initializer) : [];
	const children: string[] = [];
	ts.forEachChild(node, (child) => void children.push(...textsNamed(child, name)));
	return [...own, ...children];
}

/* Here, because a test has a time limit and a busy machine may need long to parse all of src. */
const hints = filesOf("src", /\.ts$/).flatMap((path) =>
	textsNamed(parse(path), /^(?:hint|remedy)$/).map((text) => ({ path, text })),
);

test("hints and remedies are commands: a verb first, no period last", () => {
	expect(hints.length).toBeGreaterThan(60);
	expect(hints.filter(({ text }) => !VERBS.test(text) || /[^.]\.$/.test(text))).toEqual([]);
});
