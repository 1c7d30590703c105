import { expect, test } from "vitest";
import { codeOf, filesOf, textOf } from "./sources.ts";

const MAX_LINES = 450;
const sources = filesOf("src", /\.(ts|js)$/);
const tests = filesOf("test", /\.ts$/).filter((path) => !path.startsWith("test/rules/"));
const scripts = filesOf("scripts", /\.mjs$/);

/** "path:line" of each match in the code of `paths`. */
function places(paths: readonly string[], pattern: RegExp): string[] {
	return paths.flatMap((path) =>
		codeOf(path)
			.split("\n")
			.filter((line) => pattern.test(line))
			.map((line) => `${path}: ${line.trim()}`),
	);
}

test("process.exit is nowhere: an exit status is set, and what is open is closed", () => {
	expect(places([...sources, ...scripts], /\bprocess\.exit\(/)).toEqual([]);
});

test(`no file has more than ${MAX_LINES} lines`, () => {
	const long = [...sources, ...tests, ...filesOf("native", /\.[ch]$/), ...filesOf("guests", /\.[chS]$/)]
		.map((path) => [path, textOf(path).split("\n").length] as const)
		.filter(([, lines]) => lines > MAX_LINES);
	expect(long.map(([path, lines]) => `${path}: ${lines} lines`)).toEqual([]);
});

test("every source file opens with a comment that says what it is", () => {
	const bare = sources.filter((path) => !/^(#!.*\n)?\/\*\n \* \S/.test(textOf(path)));
	expect(bare).toEqual([]);
});

/** Tests that need root may ask for it; scripts/test.mjs sees to it that in CI none is left out. */
const ASKS_FOR_ROOT = /\btest\.runIf\((isRoot|canMount|process\.getuid!\(\) === 0)\)\(/;

test("no test is left out, alone or silent", () => {
	const left = places(tests, /\b(test|it|describe|suite)(\.\w+)*\.(only|skip|skipIf|runIf|todo|fails)\b/);
	expect(left.filter((place) => !ASKS_FOR_ROOT.test(place))).toEqual([]);
	expect(places(tests, /\b(xit|xtest|xdescribe|fit|fdescribe)\(|\bcontext\.skip\(|\bskip\(\)/)).toEqual([]);
});

test("names say what a thing is: no Manager, Helper, Util", () => {
	const named = places(sources, /\b(class|interface|type|function)\s+\w*(Manager|Helper|Utils?)\b/);
	expect(named).toEqual([]);
	expect(sources.filter((path) => /(manager|helper|util|common|misc)s?\.ts$/.test(path))).toEqual([]);
});

/** These files are served to a browser as they are. */
const PAGE = "src/inspector/page/";

test("imports carry the .ts extension, and .js in the inspector's page", () => {
	expect(places(sources, /from "\.[^"]*(?<!\.ts)"/).filter((place) => !place.startsWith(PAGE))).toEqual([]);
	expect(places(sources, /from "\.[^"]*(?<!\.js)"/).filter((place) => place.startsWith(PAGE))).toEqual([]);
});
