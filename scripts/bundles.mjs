/*
 * Makes the bundles that src/bin.ts runs: dist/main.cjs and those of BUNDLES below. esbuild cuts the program at each
 * import(): each module of ours is in one part alone, however many ask for it, so that it exists once in a process. A part
 * becomes a function, and a bundle an object of such functions. V8 compiles those that are called.
 *
 *     ({ "chunk-AAAA": function (require, $part, $exports, bundleUrl) { ... },
 *        "boot-BBBB": function (require, $part, $exports, bundleUrl) { ... $part("main:chunk-AAAA") ... } })
 *     // 64 hexadecimal digits that name it: a code cache belongs to one bundle
 */
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { basename, join } from "node:path";

/** What src/bin.ts asks for by name. */
const ENTRIES = ["src/main.ts", "src/supervisor.ts"];

/**
 * Which bundle a part is in: the first one that names a module which imports it. A bundle is read as a whole, so it has what
 * one process needs. `late` parts are those that nothing else reaches than import() of these modules; processes that stay,
 * such as supervisors, need none of them, because a new version of tsvmm may have taken the files' place meanwhile.
 */
export const BUNDLES = [
	{ name: "main", imports: ["src/main.ts"] },
	{ name: "machine", imports: ["src/cli/boot.ts"], reaches: ["src/supervisor.ts"] },
	{ name: "commands", reaches: ["src/main.ts"] },
	{ name: "late" },
];
const LATE = [
	"src/cli/completion.ts",
	"src/cli/device.ts",
	"src/cli/doctor.ts",
	"src/cli/dump.ts",
	"src/cli/explain.ts",
	"src/cli/explained-machine.ts",
	"src/cli/kernel.ts",
	"src/cli/lab.ts",
	"src/cli/learn.ts",
	"src/cli/manual.ts",
	"src/cli/replay.ts",
	"src/debug/core-dump.ts",
	"src/debug/gdb/server.ts",
	"src/index.ts",
	"src/inspector/console-tap.ts",
	"src/inspector/inspector.ts",
	"src/kvm.ts",
	"src/virtio.ts",
	"src/workbench/live-devices.ts",
	"src/workbench/recording.ts",
];

/** Writes them to `directory`. `common` are esbuild's options for all that tsvmm builds. */
export async function buildBundles(directory, common, define) {
	const { build, transform } = await import("esbuild");
	const { outputFiles, metafile } = await build({
		...common,
		entryPoints: ENTRIES,
		outdir: directory,
		write: false,
		metafile: true,
		format: "esm",
		splitting: true,
		external: ["koffi", "node-gyp-build", "*.node", "./undici.cjs"],
		alias: { undici: "./undici.cjs" },
		define: { ...define, "import.meta.url": "bundleUrl" },
	});
	checkOnce(metafile);
	const homes = assign(metafile);
	const names = new Map([...homes].map(([part, bundle]) => [part, `${bundle}:${part}`]));
	const given = new Map(Object.entries(metafile.outputs).map(([path, { exports }]) => [partOf(path), exports]));
	for (const { name } of BUNDLES) {
		const parts = outputFiles.filter(({ path }) => homes.get(partOf(path)) === name);
		const functions = [];
		for (const { path, text } of parts) {
			const { code } = await transform(asFunctionBody(text, names, given.get(partOf(path))), {
				format: "cjs",
				target: common.target,
				platform: common.platform,
				/* Lines are what a stack trace tells, and the less there is to read, the sooner it starts. */
				minifyWhitespace: true,
				lineLimit: 200,
				/* What is not ours is loaded by require(). */
				supported: { "dynamic-import": false },
			});
			functions.push(`${JSON.stringify(partOf(path))}: function (require, $part, $exports, bundleUrl) {\n${code}}`);
		}
		const text = `({\n${functions.join(",\n")}\n})\n`;
		writeFileSync(join(directory, `${name}.cjs`), `${text}// ${createHash("sha256").update(text).digest("hex")}`);
	}
}

/** A module that were in two parts would exist twice, with two classes of one name. */
function checkOnce({ outputs }) {
	const seen = new Set();
	for (const source of Object.values(outputs).flatMap(({ inputs }) => Object.keys(inputs))) {
		if (seen.has(source)) throw new Error(`${source} is in two parts`);
		seen.add(source);
	}
}

const partOf = (path) => basename(path, ".js");

/** Each part with the name of its bundle. */
function assign({ outputs }) {
	const parts = new Map();
	const bySource = new Map();
	for (const [path, { entryPoint, imports }] of Object.entries(outputs)) {
		parts.set(partOf(path), imports);
		if (entryPoint !== undefined) bySource.set(entryPoint, partOf(path));
	}
	const late = new Set(LATE.map((source) => entryOf(bySource, source)));
	const walk = (from, all, found = new Set()) => {
		if (found.has(from)) return found;
		found.add(from);
		for (const { path, kind, external } of parts.get(from)) {
			const next = partOf(path);
			if (!external && (kind === "import-statement" || (all && !late.has(next)))) walk(next, all, found);
		}
		return found;
	};
	const homes = new Map();
	for (const { name, imports = [], reaches = [] } of BUNDLES) {
		const chosen = [
			...imports.flatMap((source) => [...walk(entryOf(bySource, source), false)]),
			...reaches.flatMap((source) => [...walk(entryOf(bySource, source), true)]),
		];
		for (const part of name === "late" ? parts.keys() : chosen) if (!homes.has(part)) homes.set(part, name);
	}
	return homes;
}

function entryOf(bySource, source) {
	const part = bySource.get(source);
	if (part === undefined) throw new Error(`no import() of ${source}`);
	return part;
}

/**
 * A part takes what it needs of others, and gives what it has, as esbuild has written both: imports at its beginning, and
 * one export behind all else but licenses. No part needs one that needs it, so all values are there. What Node has is left
 * to esbuild.
 */
function asFunctionBody(text, names, exports) {
	const take = (path) => `$part(${JSON.stringify(names.get(partOf(path)))})`;
	/* A package that is no ES module has one value. Its parts are given by their names, too, as Node does. */
	const isWhole = exports.includes("default");
	const pattern = isWhole ? /^export default (.*);$/gm : /^export \{([^}]*)\};$/gm;
	const last = [...text.matchAll(pattern)].at(-1);
	if ((last === undefined) !== (exports.length === 0)) throw new Error(`no other part would get ${exports}`);
	const [statement, list] = last ?? ["", ""];
	const given = isWhole ? `...${list}, default: ${list}` : list.replace(/(\S+) as (\S+?)(,?)$/gm, "$2: $1$3");
	const at = last?.index ?? text.length;
	return `${text.slice(0, at)}Object.assign($exports, {${given}});${text.slice(at + statement.length)}`
		.replace(/^import \{([^}]*)\} from "(\.\/[^"]+\.js)";$/gm, (_, list, path) => {
			return `var {${list.replaceAll(" as ", ": ")}} = ${take(path)};`;
		})
		.replace(/^import "(\.\/[^"]+\.js)";$/gm, (_, path) => `${take(path)};`)
		.replace(/\bimport\("(\.\/[^"]+\.js)"\)/g, (_, path) => `Promise.resolve().then(() => ${take(path)})`);
}
