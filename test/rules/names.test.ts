import { ts } from "ts-morph";
import { expect, test } from "vitest";
import { parse } from "./definitions.ts";
import { filesOf, textOf } from "./sources.ts";

const sources = filesOf("src", /\.ts$/);

/** Words that no name in src has, and what to say instead. */
const GONE: Record<string, string> = {
	adopt: "configure",
	folder: "directory",
	helper: "what it does",
	keeper: "supervisor",
	manager: "what it does",
	mend: "repair",
	said: "stderr or output",
	sighting: "format",
	speak: "send",
	util: "what it does",
	utils: "what it does",
};

/** Every name that a file declares: classes, functions, members, parameters, variables. */
function namesIn(path: string): Set<string> {
	const names = new Set<string>();
	const visit = (node: ts.Node): void => {
		const { name } = node as Partial<ts.NamedDeclaration>;
		const declares = !ts.isPropertyAccessExpression(node) && !ts.isMetaProperty(node);
		if (declares && name !== undefined && (ts.isIdentifier(name) || ts.isPrivateIdentifier(name))) {
			names.add(name.text.replace("#", ""));
		}
		ts.forEachChild(node, visit);
	};
	visit(parse(path));
	return names;
}

/** "fwdCntSaid" and "FWD_CNT_SAID" have the words fwd, cnt and said. */
const wordsOf = (name: string): string[] =>
	name
		.replace(/([a-z0-9])([A-Z])/g, "$1_$2")
		.toLowerCase()
		.split("_");

/* Here, because a test has a time limit and a busy machine may need long to parse all of src. */
const declared = sources.map((path) => ({ path, names: [...namesIn(path)] }));
const functions = sources.flatMap(functionsIn);

test("wordsOf and namesIn see enough to judge by", () => {
	expect(wordsOf("fwdCntSaid")).toEqual(["fwd", "cnt", "said"]);
	expect(wordsOf("LAB_FOLDER")).toEqual(["lab", "folder"]);
	const { names } = declared.find(({ path }) => path === "src/host/run-loop.ts")!;
	for (const name of ["RunLoop", "wake", "shadow", "onExit", "maxVcpus", "posted"]) expect(names).toContain(name);
});

test("names are the field's words: none of those that were replaced comes back", () => {
	const back = declared.flatMap(({ path, names }) =>
		[...names, path.replace(/^.*\/|\.ts$/g, "").replaceAll("-", "_")]
			.filter((name) => wordsOf(name).some((word) => GONE[word] !== undefined))
			.map((name) => `${path}: ${name}`),
	);
	expect(back).toEqual([]);
});

test("prose has the field's words, too: a directory is no folder, and nobody is a keeper", () => {
	const texts = [
		...sources,
		...filesOf("docs", /\.(md|ts)$/),
		...filesOf("native", /\.[ch]$/),
		...filesOf("guests", /\.([chS]|ts|md)$/),
		...["README.md", "CONTRIBUTING.md", "SECURITY.md"],
	];
	expect(texts.filter((path) => /\b(?:folder|keeper)s?\b/i.test(textOf(path)))).toEqual([]);
});

/** The most parameters that a call is read with; more go into an object. */
const MOST_PARAMETERS = 4;

/**
 * Functions with more of them, with how many. Some have to: a system call, an observer that costs no object for each
 * access, a request of the I/O ring.
 */
const KNOWN_LONG: Record<string, number> = {
	"src/base/observer.ts#Observer.access": 6,
	"src/host/io-ring.ts#IoRing.#queue": 6,
	"src/host/io-ring.ts#IoRing.#put": 8,
	"src/host/libc.ts#Libc.setsockopt": 5,
	"src/host/native.ts#Native.loopRegister": 6,
	"src/trace/recorder.ts#a function": 6,
};

/** "src/virtio/queue.ts#Virtqueue.constructor" for each function of a file, with how many parameters it has. */
function functionsIn(path: string): [name: string, parameters: number][] {
	const found: [string, number][] = [];
	const nameOf = (node: ts.Node): string => {
		if (ts.isConstructorDeclaration(node)) return "constructor";
		const { name } = node as Partial<ts.NamedDeclaration>;
		return name?.getText() ?? (node.parent as Partial<ts.NamedDeclaration>).name?.getText() ?? "a function";
	};
	const visit = (node: ts.Node): void => {
		if (ts.isFunctionLike(node)) {
			const owner = ts.isClassLike(node.parent) || ts.isInterfaceDeclaration(node.parent) ? node.parent.name?.text : "";
			found.push([`${path}#${owner ? `${owner}.` : ""}${nameOf(node)}`, node.parameters.length]);
		}
		ts.forEachChild(node, visit);
	};
	visit(parse(path));
	return found;
}

test(`no function has more than ${MOST_PARAMETERS} parameters`, () => {
	expect(functions).toContainEqual(["src/host/run-loop.ts#RunLoop.start", 3]);
	const long = functions.filter(([name, count]) => count > (KNOWN_LONG[name] ?? MOST_PARAMETERS));
	expect(long.map(([name, count]) => `${name}: ${count}`)).toEqual([]);
	const shorter = Object.keys(KNOWN_LONG).filter(
		(name) => !functions.some(([long, count]) => long === name && count === KNOWN_LONG[name]),
	);
	expect(shorter).toEqual([]);
});
